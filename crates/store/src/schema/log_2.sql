CREATE TABLE quality (
    meter BIGINT NOT NULL,
    end_at BIGINT NOT NULL,
    received BIGINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (meter, end_at)
) WITHOUT ROWID;
