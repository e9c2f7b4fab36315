CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at BIGINT NOT NULL,
    by_whom TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, id);

CREATE TABLE meter (
    id TEXT PRIMARY KEY,
    secret_sha256 BLOB,
    enrolled_at BIGINT,
    control_counter BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE zone_version (
    zone TEXT NOT NULL,
    valid_from BIGINT NOT NULL,
    valid_to BIGINT NOT NULL,
    parent TEXT,
    kind TEXT NOT NULL,
    rating_w BIGINT,
    meter TEXT,
    ct_milli BIGINT NOT NULL,
    phase TEXT NOT NULL,
    PRIMARY KEY (zone, valid_from)
) WITHOUT ROWID;
CREATE INDEX zone_meter ON zone_version (meter);

CREATE TABLE usage_point (
    id TEXT PRIMARY KEY,
    never_disconnect BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE installation (
    usage_point TEXT NOT NULL REFERENCES usage_point (id),
    valid_from BIGINT NOT NULL,
    valid_to BIGINT NOT NULL,
    zone TEXT NOT NULL,
    meter TEXT,
    ct_milli BIGINT NOT NULL,
    phase TEXT NOT NULL,
    PRIMARY KEY (usage_point, valid_from)
) WITHOUT ROWID;
CREATE INDEX installation_meter ON installation (meter);
CREATE INDEX installation_zone ON installation (zone);

CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE pipeline_blob (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE balance_day (
    zone TEXT NOT NULL,
    day BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (zone, day)
) WITHOUT ROWID;

CREATE TABLE case_file (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    zone TEXT NOT NULL,
    usage_point TEXT,
    state TEXT NOT NULL,
    is_open BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    owner TEXT,
    body TEXT NOT NULL
);
CREATE INDEX case_open ON case_file (is_open, zone);
CREATE INDEX case_usage_point ON case_file (usage_point);

CREATE TABLE control (
    id INTEGER PRIMARY KEY,
    meter TEXT NOT NULL,
    usage_point TEXT,
    feeder TEXT,
    case_id BIGINT,
    kind TEXT NOT NULL,
    cuts_supply BIGINT NOT NULL,
    state TEXT NOT NULL,
    is_final BIGINT NOT NULL,
    reason TEXT NOT NULL,
    state_reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    approval TEXT,
    approved_at BIGINT,
    expires BIGINT NOT NULL,
    counter BIGINT NOT NULL
);
CREATE INDEX control_open ON control (is_final, id);
CREATE INDEX control_meter ON control (meter, id);
CREATE INDEX control_approved ON control (cuts_supply, approved_at);
CREATE TABLE control_step (
    control BIGINT NOT NULL REFERENCES control (id),
    step BIGINT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (control, step)
) WITHOUT ROWID;

CREATE TABLE person (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    usage_point TEXT,
    password_hash TEXT NOT NULL,
    disabled BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);
CREATE TABLE session (
    token_sha256 BLOB PRIMARY KEY,
    person BIGINT NOT NULL REFERENCES person (id),
    expires BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE one_time (
    token_sha256 BLOB PRIMARY KEY,
    purpose TEXT NOT NULL,
    expires BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE api_token (
    token_sha256 BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
