-- What an ended run has left, and what of it is gone: which files it names, and whose results it adopted.
CREATE TABLE estates (
    run BIGINT PRIMARY KEY REFERENCES runs (id),
    -- JSON.
    body TEXT NOT NULL,
    -- JSON: when and why; null while they are kept.
    logs_gone TEXT,
    artifacts_gone TEXT
);
