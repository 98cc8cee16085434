INSERT INTO ref_moves (delivery, project, ref_kind, ref_name, old_sha, new_sha) VALUES
    (1, 'mall', 'branch', 'main', '', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
