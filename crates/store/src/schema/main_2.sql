CREATE TABLE attachment (
    id INTEGER PRIMARY KEY,
    case_id BIGINT NOT NULL REFERENCES case_file (id),
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    at BIGINT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX attachment_case ON attachment (case_id, id);

CREATE TABLE case_basis (
    id INTEGER PRIMARY KEY,
    case_id BIGINT NOT NULL REFERENCES case_file (id),
    at BIGINT NOT NULL,
    carries_evidence BIGINT NOT NULL,
    head TEXT NOT NULL,
    balances BLOB NOT NULL,
    parent BLOB NOT NULL
);
CREATE INDEX case_basis_case ON case_basis (case_id, id);

CREATE TABLE baseline (
    meter TEXT PRIMARY KEY,
    end_at BIGINT NOT NULL,
    import_wh BIGINT NOT NULL,
    export_wh BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    zone TEXT NOT NULL,
    meter TEXT,
    state TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX finding_state ON finding (state, id);
CREATE INDEX finding_meter ON finding (meter);
