INSERT INTO deliveries (id, project, forge_id, event, received_at, outcome, body) VALUES
    (1, 'mall', 'f1', 'push', 1700000000000, '{"outcome":"ran","runs":[1],"notes":[]}', x'7b7d'),
    (2, 'mall', 'f2', 'push', 1700000000001, NULL, x'7b7d');
