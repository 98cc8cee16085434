//! The imperative shell around the engine: run loop, outbox, timers, recovery.
