//! The async runtimes of commands.

use std::future::Future;

use tokio::runtime::Builder;

use crate::failure::{Failure, OrFail};

/// Runs a future on this thread: starts fast, enough for everything but the server.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .or_fail("start the runtime")?;
    let answer = runtime.block_on(future);
    // A blocking read of the terminal may still be open: nobody waits for it.
    runtime.shutdown_background();
    answer
}

/// Runs a future on all cores.
pub(crate) fn block_on_all_cores<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail("start the runtime")?;
    let answer = runtime.block_on(future);
    runtime.shutdown_background();
    answer
}
