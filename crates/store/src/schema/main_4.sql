CREATE INDEX control_step_state ON control_step (state, at);

CREATE TABLE pending_change (
    id INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    words TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
