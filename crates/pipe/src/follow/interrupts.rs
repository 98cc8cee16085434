//! What asks a command to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, OrFail};

/// Ctrl-C, a polite end asked by others, and a terminal that was closed.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).or_fail("listen for signals")?,
            terminate: signal(SignalKind::terminate()).or_fail("listen for signals")?,
            hangup: signal(SignalKind::hangup()).or_fail("listen for signals")?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
