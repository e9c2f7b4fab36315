CREATE TABLE block (
    day BIGINT NOT NULL,
    meter BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (day, meter)
) WITHOUT ROWID;

CREATE TABLE bill (
    from_s BIGINT NOT NULL,
    meter BIGINT NOT NULL,
    to_s BIGINT NOT NULL,
    total BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (from_s, meter)
) WITHOUT ROWID;
