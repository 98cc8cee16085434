INSERT INTO snapshots (run, version, body) VALUES (2, 1, '{"id":2,"body":null}');
