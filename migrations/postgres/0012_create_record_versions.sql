-- Every version of every record that has a history.
CREATE TABLE record_versions (
    kind TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    -- From 1, without gaps.
    version BIGINT NOT NULL,
    -- JSON.
    author TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- JSON; null: it was removed.
    body TEXT,
    PRIMARY KEY (kind, name, version)
);

CREATE TRIGGER record_versions_never_change
BEFORE UPDATE ON record_versions
FOR EACH ROW EXECUTE FUNCTION refuse('a version never changes');

CREATE TRIGGER record_versions_stay
BEFORE DELETE ON record_versions
FOR EACH ROW EXECUTE FUNCTION refuse('a version stays');
