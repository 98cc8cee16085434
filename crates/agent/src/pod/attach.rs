//! A stream into the pod: what comes in goes to the supervisor's socket, and what it says goes out.
//!
//! Entry function: [`run`].

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How long the supervisor may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Connects standard input and output with the socket, until either ends.
pub(crate) fn run(socket: &Path) -> ExitCode {
    match relay(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn relay(socket: &Path) -> io::Result<()> {
    let stream = connect(socket)?;
    let mut inward = stream.try_clone()?;
    thread::spawn(move || {
        // Whoever opened this stream closed it, or it broke.
        drop(pass(&mut io::stdin().lock(), &mut inward));
        drop(inward.shutdown(Shutdown::Both));
    });
    pass(&mut &stream, &mut io::stdout().lock())
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        to.flush()?;
    }
}
