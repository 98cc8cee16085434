INSERT INTO estates (run, body, logs_gone, artifacts_gone) VALUES
    (1, '{"log_bytes":7,"files":[],"adopts":[],"promoted":false}', '{"at":1700000002000,"why":{"why":"age","after":5000}}', NULL);
