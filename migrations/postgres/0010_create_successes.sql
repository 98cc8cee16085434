-- What `reuse:` adopts: the newest success for each digest of inputs.
CREATE TABLE successes (
    inputs TEXT PRIMARY KEY,
    run BIGINT NOT NULL REFERENCES runs (id),
    -- JSON: the attempt, its outputs and artifacts.
    body TEXT NOT NULL
);

CREATE INDEX successes_by_run ON successes (run);
