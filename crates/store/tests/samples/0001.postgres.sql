INSERT INTO deliveries (project, forge_id, event, received_at, outcome, body) VALUES
    ('mall', 'f1', 'push', 1700000000000, '{"outcome":"ran","runs":[1],"notes":[]}', '\x7b7d'),
    ('mall', 'f2', 'push', 1700000000001, NULL, '\x7b7d');
