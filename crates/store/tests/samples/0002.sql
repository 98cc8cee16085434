INSERT INTO refusals (project, at, reason) VALUES ('mall', 1700000000000, 'bad signature');
