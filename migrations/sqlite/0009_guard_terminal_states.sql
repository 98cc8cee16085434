CREATE TRIGGER finished_runs_keep_their_outcome
BEFORE UPDATE OF outcome ON runs
WHEN OLD.outcome IS NOT NULL AND NEW.outcome IS NOT OLD.outcome
BEGIN
    SELECT RAISE(ABORT, 'a finished run keeps its outcome');
END;

CREATE TRIGGER finished_runs_take_no_events
BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM runs WHERE id = NEW.run AND outcome IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'a finished run takes no events');
END;

CREATE TRIGGER events_never_change
BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event never changes');
END;

-- A settled delivery is opened again only by counting the reopening.
CREATE TRIGGER settled_deliveries_keep_their_outcome
BEFORE UPDATE OF outcome ON deliveries
WHEN OLD.outcome IS NOT NULL
    AND NEW.outcome IS NOT OLD.outcome
    AND NOT (NEW.outcome IS NULL AND NEW.reopened = OLD.reopened + 1)
BEGIN
    SELECT RAISE(ABORT, 'a settled delivery keeps its outcome');
END;
