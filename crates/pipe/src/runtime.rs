//! The async runtimes of commands.

use std::{future::Future, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::failure::{Failure, OrFail};

/// Runs a future on this thread: starts fast, enough for everything but the server.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .or_fail("start the runtime")?;
    let answer = runtime.block_on(future);
    end(runtime);
    answer
}

/// Runs a future on all cores.
pub(crate) fn block_on_all_cores<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail("start the runtime")?;
    let answer = runtime.block_on(future);
    end(runtime);
    answer
}

/// Waits for what works on files, but not for a read of the terminal that may never end.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(200));
}
