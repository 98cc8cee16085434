-- The newest snapshot of each run: a speed-up, never the truth.
CREATE TABLE snapshots (
    run BIGINT PRIMARY KEY REFERENCES runs (id),
    -- How many events it holds.
    version BIGINT NOT NULL,
    -- JSON.
    body TEXT NOT NULL
);
