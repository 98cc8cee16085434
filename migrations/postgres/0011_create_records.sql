-- What people configure, and who they are: one row for each record as it is now.
CREATE TABLE records (
    kind TEXT NOT NULL,
    -- Listed by bytes, whatever the database's own order is.
    name TEXT COLLATE "C" NOT NULL,
    -- What it belongs to: a document's kind, a token's user; '' for nothing.
    owner TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- JSON.
    author TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    expires_at BIGINT,
    -- JSON.
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE INDEX records_by_owner ON records (kind, owner, name);
CREATE INDEX records_by_end ON records (expires_at) WHERE expires_at IS NOT NULL;
