CREATE TABLE late_day (
    id INTEGER PRIMARY KEY,
    meter BIGINT NOT NULL,
    day BIGINT NOT NULL,
    UNIQUE (meter, day)
);
