ALTER TABLE zone_version ADD COLUMN meter_class TEXT;
ALTER TABLE zone_version ADD COLUMN known_from BIGINT NOT NULL DEFAULT 0;
ALTER TABLE installation ADD COLUMN meter_class TEXT;
ALTER TABLE installation ADD COLUMN unmetered_w BIGINT;
ALTER TABLE installation ADD COLUMN known_from BIGINT NOT NULL DEFAULT 0;

CREATE TABLE zone_version_past (
    zone TEXT NOT NULL,
    valid_from BIGINT NOT NULL,
    valid_to BIGINT NOT NULL,
    parent TEXT,
    kind TEXT NOT NULL,
    rating_w BIGINT,
    meter TEXT,
    ct_milli BIGINT NOT NULL,
    phase TEXT NOT NULL,
    meter_class TEXT,
    known_from BIGINT NOT NULL,
    known_to BIGINT NOT NULL
);
CREATE INDEX zone_version_past_zone ON zone_version_past (zone);

CREATE TABLE installation_past (
    usage_point TEXT NOT NULL REFERENCES usage_point (id),
    valid_from BIGINT NOT NULL,
    valid_to BIGINT NOT NULL,
    zone TEXT NOT NULL,
    rating_w BIGINT,
    meter TEXT,
    ct_milli BIGINT NOT NULL,
    phase TEXT NOT NULL,
    meter_class TEXT,
    unmetered_w BIGINT,
    known_from BIGINT NOT NULL,
    known_to BIGINT NOT NULL
);
CREATE INDEX installation_past_point ON installation_past (usage_point);
