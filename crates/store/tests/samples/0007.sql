INSERT INTO effects (key, run, body) VALUES ('r2/turn', 2, '{"type":"await_turn","run":2}');
