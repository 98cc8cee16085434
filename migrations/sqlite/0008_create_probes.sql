-- One row, written whenever somebody asks whether the database can be written.
CREATE TABLE probes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    checks INTEGER NOT NULL
) STRICT;
