//! A scripted shell: it tells its size, repeats what is typed, and ends with ^D.

use futures_util::future::{BoxFuture, ready};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
};

use crate::{
    DebugOrder, EnterOrder, Entered, LaunchError, Terminal, TerminalSize, Told,
    debug::{Keep, REMOVED},
};

/// What ends the shell.
const END: u8 = 4;

/// Nothing is there to be removed.
struct Nothing;

impl Keep for Nothing {
    fn remove(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

/// Opens the shell; a step that is called `broken` has none.
pub(super) async fn open(order: DebugOrder) -> Result<Terminal, LaunchError> {
    let name = order.launch.steps.last().map(|step| step.name.clone());
    let name = name.unwrap_or_default();
    let left = |_| LaunchError::Terminal {
        reason: "nobody waits".to_owned(),
    };
    let note = Told::Note(format!("up to {name}"));
    order.told.send(note).await.map_err(left)?;
    if name == "broken" {
        return Err(LaunchError::Terminal {
            reason: "it is broken".to_owned(),
        });
    }
    Ok(terminal(order.size, REMOVED))
}

/// Opens the shell in containers that are held.
pub(super) async fn enter(order: EnterOrder) -> Entered {
    let note = Told::Note("as the step left it".to_owned());
    // Whoever left does not hear it.
    drop(order.told.send(note).await);
    Entered::Open(terminal(order.size, "its pod is held"))
}

fn terminal(size: TerminalSize, afterwards: &str) -> Terminal {
    let (near, far) = duplex(64);
    let (sizes, coming) = mpsc::channel(1);
    tokio::spawn(play(far, size, coming));
    Terminal {
        stream: Box::new(near),
        sizes,
        afterwards: afterwards.to_owned(),
        keep: Box::new(Nothing),
    }
}

async fn play(mut stream: DuplexStream, first: TerminalSize, mut sizes: mpsc::Receiver<TerminalSize>) {
    let mut size = Some(first);
    let mut buffer = [0; 64];
    loop {
        if let Some(TerminalSize { columns, rows }) = size.take() {
            let text = format!("[{columns}x{rows}]");
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
        let count = tokio::select! {
            Some(next) = sizes.recv() => {
                size = Some(next);
                continue;
            }
            read = stream.read(&mut buffer) => read.unwrap_or(0),
        };
        let typed = buffer.get(..count).unwrap_or_default();
        if typed.is_empty() || typed.contains(&END) || stream.write_all(typed).await.is_err() {
            return;
        }
    }
}
