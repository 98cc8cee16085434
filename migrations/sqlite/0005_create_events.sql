CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs (id),
    -- From 1, without gaps.
    sequence INTEGER NOT NULL,
    -- The version of the event's form.
    version INTEGER NOT NULL,
    -- JSON.
    body TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT, WITHOUT ROWID;
