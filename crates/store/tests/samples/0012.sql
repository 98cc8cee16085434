INSERT INTO record_versions (kind, name, version, author, changed_at, body) VALUES
    ('document', 'environment/prod', 1, '{"kind":"system"}', 4, '{"count":1}'),
    ('document', 'environment/prod', 2, '{"kind":"user","name":"ann"}', 5, '{"count":2}'),
    ('document', 'environment/gone', 1, '{"kind":"system"}', 4, NULL);
