//! How a command ends: exit codes, and errors that say what, where and what to do next.

use std::{fmt, process::ExitCode};

/// The exit codes of `pipe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: it did what was asked.
    Done,
    /// 1: the run failed, was rejected or cancelled.
    RunFailed,
    /// 2: wrong usage, a wrong file, a wrong configuration.
    Usage,
    /// 3: not found, or not allowed.
    NotFound,
    /// 4: our side failed.
    Ours,
    /// 124: the time was over.
    TimedOut,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RunFailed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Ours => 4,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What went wrong: a lowercase fragment.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Wrong usage, a wrong file or a wrong configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something is not there or not allowed.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Our side failed.
    pub(crate) fn ours(message: impl Into<String>) -> Self {
        Self::new(Exit::Ours, message)
    }

    /// A failure with this exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Turns an error into a [`Failure`] that says what was being done.
pub(crate) trait OrFail<T> {
    /// Our side failed while doing `what`, an imperative such as ``read `x` ``.
    fn or_fail(self, what: impl fmt::Display) -> Result<T, Failure>;

    /// The user's side is wrong: configuration, paths, permissions.
    fn or_usage(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::ours(format!("failed to {what}: {}", chain(&error))))
    }

    fn or_usage(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::usage(format!("failed to {what}: {}", chain(&error))))
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::{Exit, OrFail};

    #[test]
    fn the_codes_are_the_documented_ones() {
        let codes = [
            Exit::Done,
            Exit::RunFailed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Ours,
            Exit::TimedOut,
            Exit::Interrupted,
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 124, 130]);
    }

    #[test]
    fn an_error_becomes_one_line() {
        let failure = "x".parse::<u8>().or_usage("read the port").unwrap_err();
        assert_eq!(
            failure.message,
            "failed to read the port: invalid digit found in string"
        );
        assert_eq!(failure.exit, Exit::Usage);
    }
}
