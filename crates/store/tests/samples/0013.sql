INSERT INTO audit (at, actor, who, address, verb, subject, project, old, new, reason) VALUES
    (5, '{"kind":"user","name":"ann"}', 'ann', '127.0.0.1', 'document.apply', 'document/environment/prod', NULL,
     '{"count":1}', '{"count":2}', NULL);
