-- One row, written whenever somebody asks whether the database can be written.
CREATE TABLE probes (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    checks BIGINT NOT NULL
);
