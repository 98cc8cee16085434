CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    forge_id TEXT NOT NULL,
    event TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    -- JSON; null while the delivery waits.
    outcome TEXT,
    -- How often its outcome was taken back.
    reopened INTEGER NOT NULL DEFAULT 0,
    -- The last column, so that lists never read it.
    body BLOB NOT NULL,
    UNIQUE (project, forge_id)
) STRICT;

CREATE INDEX deliveries_by_project ON deliveries (project);
CREATE INDEX deliveries_pending ON deliveries (id) WHERE outcome IS NULL;
