INSERT INTO probes (id, checks) VALUES (1, 41);
