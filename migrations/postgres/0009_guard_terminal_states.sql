CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END;
$$;

CREATE FUNCTION refuse_if_finished() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM runs WHERE id = NEW.run AND outcome IS NOT NULL) THEN
        RAISE EXCEPTION '%', TG_ARGV[0];
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER finished_runs_keep_their_outcome
BEFORE UPDATE OF outcome ON runs
FOR EACH ROW WHEN (OLD.outcome IS NOT NULL AND NEW.outcome IS DISTINCT FROM OLD.outcome)
EXECUTE FUNCTION refuse('a finished run keeps its outcome');

CREATE TRIGGER finished_runs_take_no_events
BEFORE INSERT ON events
FOR EACH ROW EXECUTE FUNCTION refuse_if_finished('a finished run takes no events');

CREATE TRIGGER events_never_change
BEFORE UPDATE ON events
FOR EACH ROW EXECUTE FUNCTION refuse('an event never changes');

-- A settled delivery is opened again only by counting the reopening.
CREATE TRIGGER settled_deliveries_keep_their_outcome
BEFORE UPDATE OF outcome ON deliveries
FOR EACH ROW WHEN (
    OLD.outcome IS NOT NULL
    AND NEW.outcome IS DISTINCT FROM OLD.outcome
    AND NOT (NEW.outcome IS NULL AND NEW.reopened = OLD.reopened + 1)
)
EXECUTE FUNCTION refuse('a settled delivery keeps its outcome');
