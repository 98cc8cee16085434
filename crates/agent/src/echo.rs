//! A copy of the log on standard output, which may stand still. Entry type: [`Echo`].

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many pieces may wait.
const WAITING: usize = 16;
/// How long one that finds no place waits for it, once.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(2);
/// What stands where pieces are missing.
const GAP: &[u8] =
    b"\npipekeeper: output is missing here, because nobody took it; the attempt's own log has it\n";

/// Writes on a thread of its own what it gets. It is a convenience: whoever gives it something waits a moment for a
/// slow reader, and not at all for one that stands still.
pub(crate) struct Echo {
    pieces: SyncSender<Vec<u8>>,
    /// Closed at the end.
    done: Receiver<()>,
    has_gap: bool,
}

impl Echo {
    pub(crate) fn start(mut to: impl Write + Send + 'static) -> Self {
        let (pieces, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let (alive, done) = channel();
        thread::spawn(move || {
            let _alive: std::sync::mpsc::Sender<()> = alive;
            for piece in waiting {
                if to.write_all(&piece).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        });
        Self {
            pieces,
            done,
            has_gap: false,
        }
    }

    /// Takes a piece, or drops it.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let gap = if self.has_gap { GAP } else { &[] };
        let mut piece = [gap, bytes].concat();
        let until = Instant::now() + if self.has_gap { Duration::ZERO } else { PATIENCE };
        loop {
            piece = match self.pieces.try_send(piece) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {
                    self.has_gap = false;
                    return;
                }
                Err(TrySendError::Full(piece)) => piece,
            };
            if Instant::now() >= until {
                self.has_gap = true;
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits a moment until all is out.
    pub(crate) fn finish(self, patience: Duration) {
        drop(self.pieces);
        // Whether it was all or not: nobody waits longer.
        let _ = self.done.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, pipe};

    use super::*;

    #[test]
    fn everything_comes_out_in_order() {
        let (mut read, write) = pipe().unwrap();
        let mut echo = Echo::start(write);
        for piece in [b"one ".as_slice(), b"two ", b"three"] {
            echo.put(piece);
        }
        echo.finish(Duration::from_secs(60));
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let (read, write) = pipe().unwrap();
        let mut echo = Echo::start(write);
        let begun = Instant::now();
        for _ in 0..2 * WAITING {
            echo.put(&[b'x'; 64 << 10]);
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(echo.has_gap);
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut read = read;
            read.read_to_end(&mut bytes).map(|_| bytes)
        });
        // Once it reads again, what was dropped is marked.
        while echo.has_gap {
            echo.put(b"end");
            thread::yield_now();
        }
        echo.finish(Duration::from_secs(60));
        let bytes: Result<Vec<u8>, io::Error> = reading.join().unwrap();
        let text = String::from_utf8(bytes.unwrap()).unwrap();
        assert!(text.contains("output is missing here"));
        assert!(text.ends_with("end"));
    }
}
