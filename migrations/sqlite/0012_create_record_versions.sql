-- Every version of every record that has a history.
CREATE TABLE record_versions (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- From 1, without gaps.
    version INTEGER NOT NULL,
    -- JSON.
    author TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    -- JSON; null: it was removed.
    body TEXT,
    PRIMARY KEY (kind, name, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER record_versions_never_change
BEFORE UPDATE ON record_versions
BEGIN
    SELECT RAISE(ABORT, 'a version never changes');
END;

CREATE TRIGGER record_versions_stay
BEFORE DELETE ON record_versions
BEGIN
    SELECT RAISE(ABORT, 'a version stays');
END;
