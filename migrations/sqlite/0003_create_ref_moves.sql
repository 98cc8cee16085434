-- The ledger of refs. '' stands for no commit: before a ref was made, after it was deleted.
CREATE TABLE ref_moves (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    project TEXT NOT NULL,
    ref_kind TEXT NOT NULL CHECK (ref_kind IN ('branch', 'tag')),
    ref_name TEXT NOT NULL,
    old_sha TEXT NOT NULL,
    new_sha TEXT NOT NULL
) STRICT;

CREATE INDEX ref_moves_by_delivery ON ref_moves (delivery);
CREATE INDEX ref_moves_by_ends ON ref_moves (project, ref_kind, ref_name, old_sha, new_sha);
CREATE INDEX ref_moves_by_new_sha ON ref_moves (project, ref_kind, ref_name, new_sha);
