ALTER TABLE installation ADD COLUMN rating_w BIGINT;
