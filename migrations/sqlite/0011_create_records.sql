-- What people configure, and who they are: one row for each record as it is now.
CREATE TABLE records (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- What it belongs to: a document's kind, a token's user; '' for nothing.
    owner TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- JSON.
    author TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    expires_at INTEGER,
    -- JSON.
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX records_by_owner ON records (kind, owner);
CREATE INDEX records_by_end ON records (expires_at) WHERE expires_at IS NOT NULL;
