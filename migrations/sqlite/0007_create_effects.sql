-- The outbox: effects that wait to be performed.
CREATE TABLE effects (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    run INTEGER NOT NULL REFERENCES runs (id),
    -- JSON.
    body TEXT NOT NULL
) STRICT;

CREATE INDEX effects_by_run ON effects (run);
