//! Asking for what must not be seen: without echo on a terminal, from the first line of stdin elsewhere.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::failure::{Failure, OrFail};

/// Puts the terminal back as it was, whatever happens.
struct Echo(Termios);

impl Drop for Echo {
    fn drop(&mut self) {
        // There is nothing left to do about a terminal that takes no orders.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Asks for a secret.
pub(crate) fn ask(prompt: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let before = termios::tcgetattr(io::stdin()).or_fail("read the terminal's settings")?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    let echo = Echo(before);
    termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent).or_fail("hide what is typed")?;
    put(prompt)?;
    let answer = line();
    drop(echo);
    put("\n")?;
    answer
}

/// Asks for a secret that may have several lines: one line of a terminal, all of stdin elsewhere. A line end after the last line
/// is no part of it.
pub(crate) fn ask_whole(prompt: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return ask(prompt);
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .or_usage("read a value from stdin")?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

/// Asks for something that may be seen.
pub(crate) fn ask_line(prompt: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        put(prompt)?;
    }
    line()
}

fn put(text: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    stderr
        .write_all(text.as_bytes())
        .or_fail("write to the terminal")?;
    stderr.flush().or_fail("write to the terminal")
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin()
        .lock()
        .read_line(&mut line)
        .or_usage("read an answer from stdin")?;
    if read == 0 {
        return Err(Failure::usage("stdin ended before there was an answer")
            .hint("on a terminal it is asked for; elsewhere it is a line of stdin"));
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
