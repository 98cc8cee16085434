-- The newest snapshot of each run: a speed-up, never the truth.
CREATE TABLE snapshots (
    run INTEGER PRIMARY KEY REFERENCES runs (id),
    -- How many events it holds.
    version INTEGER NOT NULL,
    -- JSON.
    body TEXT NOT NULL
) STRICT;
