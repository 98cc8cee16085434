CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    -- How many events it has.
    version INTEGER NOT NULL,
    project TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    event TEXT NOT NULL,
    ref_kind TEXT CHECK (ref_kind IN ('branch', 'tag')),
    ref_name TEXT,
    sha TEXT,
    subject TEXT NOT NULL,
    -- JSON.
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    outcome TEXT,
    phase TEXT NOT NULL,
    needs_person INTEGER NOT NULL CHECK (needs_person IN (0, 1)),
    group_key TEXT,
    next_deadline INTEGER,
    quarantined TEXT
) STRICT;

CREATE INDEX runs_by_project ON runs (project);
CREATE INDEX runs_by_pipeline ON runs (project, pipeline);
CREATE INDEX runs_by_sha ON runs (sha) WHERE sha IS NOT NULL;
CREATE INDEX runs_by_group ON runs (group_key) WHERE group_key IS NOT NULL;
CREATE INDEX runs_active ON runs (id) WHERE outcome IS NULL;
CREATE INDEX runs_active_by_group ON runs (group_key) WHERE outcome IS NULL;
