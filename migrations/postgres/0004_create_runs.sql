CREATE TABLE runs (
    id BIGINT PRIMARY KEY,
    -- How many events it has.
    version BIGINT NOT NULL,
    project TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    event TEXT NOT NULL,
    ref_kind TEXT CHECK (ref_kind IN ('branch', 'tag')),
    ref_name TEXT,
    sha TEXT,
    subject TEXT NOT NULL,
    -- JSON.
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    outcome TEXT,
    phase TEXT NOT NULL,
    needs_person BOOLEAN NOT NULL,
    group_key TEXT,
    next_deadline BIGINT,
    quarantined TEXT
);

CREATE INDEX runs_by_project ON runs (project, id);
CREATE INDEX runs_by_pipeline ON runs (project, pipeline, id);
CREATE INDEX runs_by_sha ON runs (sha, id) WHERE sha IS NOT NULL;
CREATE INDEX runs_by_group ON runs (group_key, id) WHERE group_key IS NOT NULL;
CREATE INDEX runs_active ON runs (id) WHERE outcome IS NULL;
CREATE INDEX runs_active_by_group ON runs (group_key, id) WHERE outcome IS NULL;
