INSERT INTO runs (id, version, project, pipeline, event, ref_kind, ref_name, sha, subject, actor, created_at, finished_at,
    outcome, phase, needs_person, group_key, next_deadline) VALUES
    (1, 0, 'mall', 'web', 'push', 'branch', 'main', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'Count', '{"kind":"system"}',
        1700000000000, 1700000001000, 'timed_out', 'finished', false, NULL, NULL),
    (2, 2, 'mall', 'web', 'manual', NULL, NULL, NULL, '', '{"kind":"user","name":"ann"}',
        1700000002000, NULL, NULL, 'running', true, 'mall/web/main', 1700000009000);
