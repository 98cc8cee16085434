-- Who did what to what. Nothing is ever changed or taken out.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    -- JSON, and the text that stands for it.
    actor TEXT NOT NULL,
    who TEXT NOT NULL,
    address TEXT,
    verb TEXT NOT NULL,
    subject TEXT NOT NULL,
    project TEXT,
    -- JSON.
    old TEXT,
    -- JSON.
    new TEXT,
    reason TEXT
) STRICT;

CREATE INDEX audit_by_who ON audit (who);
CREATE INDEX audit_by_subject ON audit (subject);
CREATE INDEX audit_by_project ON audit (project) WHERE project IS NOT NULL;

CREATE TRIGGER audit_never_changes
BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'an audit entry never changes');
END;

CREATE TRIGGER audit_stays
BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'an audit entry stays');
END;
