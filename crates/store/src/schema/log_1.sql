CREATE TABLE meter (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, state BLOB);
CREATE TABLE log (position INTEGER PRIMARY KEY, received BIGINT NOT NULL, body BLOB NOT NULL);
CREATE TABLE dedupe (
    meter BIGINT NOT NULL,
    boot BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (meter, boot)
) WITHOUT ROWID;
CREATE TABLE counter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_position BIGINT NOT NULL,
    frames BIGINT NOT NULL,
    readings BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    conflicts BIGINT NOT NULL,
    suspect BIGINT NOT NULL,
    quarantined BIGINT NOT NULL
);
INSERT INTO counter VALUES (1, 1, 0, 0, 0, 0, 0, 0);

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    meter BIGINT NOT NULL,
    at BIGINT NOT NULL,
    received BIGINT NOT NULL,
    code BIGINT NOT NULL,
    tamper BIGINT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX event_meter ON event (meter, at);
CREATE INDEX event_at ON event (at);
CREATE INDEX event_tamper ON event (tamper, at) WHERE tamper = 1;
CREATE TABLE reply (
    id INTEGER PRIMARY KEY,
    meter BIGINT NOT NULL,
    control BIGINT NOT NULL,
    received BIGINT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX reply_control ON reply (control);
CREATE TABLE snapshot (
    meter BIGINT NOT NULL,
    at BIGINT NOT NULL,
    received BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (meter, at)
) WITHOUT ROWID;
CREATE TABLE quality_day (
    meter BIGINT NOT NULL,
    day BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (meter, day)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    meter TEXT NOT NULL,
    topic TEXT NOT NULL,
    why TEXT NOT NULL,
    payload BLOB NOT NULL,
    received BIGINT NOT NULL
);
