INSERT INTO records (kind, name, owner, version, author, changed_at, expires_at, body) VALUES
    ('document', 'environment/prod', 'environment', 2, '{"kind":"user","name":"ann"}', 5, NULL, '{"count":2}'),
    ('session', 'aa', 'ann', 1, '{"kind":"system"}', 5, 9, '{}');
