INSERT INTO successes (inputs, run, body) VALUES ('sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 2, '{"attempt":"r2-n0-a1","outputs":{"version":"1.2"},"artifacts":[]}');
