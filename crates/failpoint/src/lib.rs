//! Named points at which a test lets the process die, as kill -9 would: no destructor runs, nothing is flushed.
//!
//! `PIPE_FAILPOINT=name:count` aborts the process the `count`-th time it comes by the point `name`. Without the feature
//! `enabled`, which only the crash tests set, [`hit`] is empty.

/// Passes by a point.
pub fn hit(name: &str) {
    #[cfg(feature = "enabled")]
    enabled::hit(name);
    #[cfg(not(feature = "enabled"))]
    let _ = name;
}

/// Every point there is, with what has just happened when the process dies there.
pub const POINTS: [(&str, &str); 18] = [
    (
        "hook_read",
        "the body of a webhook was read and verified, and is not stored",
    ),
    (
        "hook_stored",
        "a delivery is stored, and its sender has no answer yet",
    ),
    (
        "admitted",
        "a delivery was fetched and planned, and no run is stored",
    ),
    (
        "run_created",
        "a run and the end of its delivery are stored, and nothing is performed",
    ),
    ("effect_begun", "an effect is stored and about to be performed"),
    (
        "launched",
        "an attempt was launched, and its effect is not settled",
    ),
    (
        "ticket_asked",
        "a supervisor has checked in, and nothing of it is stored",
    ),
    (
        "ticket_granted",
        "a ticket is stored, and its supervisor does not know",
    ),
    (
        "ticket_given",
        "a supervisor has its ticket, and user code may run",
    ),
    ("log_grew", "an attempt is writing its log"),
    ("end_seen", "an attempt has ended, and nothing of it is stored"),
    (
        "end_committed",
        "the end of an attempt is stored, and nothing that follows from it was done",
    ),
    ("gate_opened", "a gate is stored as open, and nobody was told"),
    (
        "approved",
        "an approval is stored, and its sender has no answer yet",
    ),
    ("cancelled", "a cancel is stored, and the attempts are alive"),
    (
        "stopped",
        "an attempt was told to stop, and its effect is not settled",
    ),
    (
        "settling",
        "effects were performed, and their rows are still there",
    ),
    ("run_finished", "the end of a run is stored, and nobody was told"),
];

#[cfg(feature = "enabled")]
mod enabled {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    struct Armed {
        name: String,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(crate) fn hit(name: &str) {
        let Some(armed) = ARMED.get_or_init(read) else {
            return;
        };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }

    fn read() -> Option<Armed> {
        let text = std::env::var("PIPE_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':')?;
        Some(Armed {
            name: name.to_owned(),
            left: AtomicU32::new(count.parse().ok()?),
        })
    }
}
