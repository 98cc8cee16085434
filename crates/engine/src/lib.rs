//! The pure machines that decide everything about a run.
