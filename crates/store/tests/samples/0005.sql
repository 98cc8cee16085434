INSERT INTO events (run, sequence, version, body) VALUES
    (2, 1, 1, '{"at":1700000002000,"actor":{"kind":"system"},"fact":{"type":"turn_awaited"}}'),
    (2, 2, 1, '{"at":1700000002001,"actor":{"kind":"system"},"fact":{"type":"turn_came"}}');
