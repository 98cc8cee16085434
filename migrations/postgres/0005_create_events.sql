CREATE TABLE events (
    run BIGINT NOT NULL REFERENCES runs (id),
    -- From 1, without gaps.
    sequence BIGINT NOT NULL,
    -- The version of the event's form.
    version BIGINT NOT NULL,
    -- JSON.
    body TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
);
