//! `pipe explain CODE`.

use clap::Args;

use crate::{
    failure::{Exit, Failure},
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The code; without one, all codes are listed
    code: Option<String>,
}

impl Explain {
    /// Prints the code's page.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let Some(code) = self.code else {
            for code in pipekeeper_spec::codes() {
                term::say(format_args!("{code}  {}", title(code)));
            }
            return Ok(Exit::Done);
        };
        let page = pipekeeper_spec::explain(&code).ok_or_else(|| {
            Failure::not_found(format!("there is no code `{code}`")).hint("`pipe explain` lists the codes")
        })?;
        term::say(page.trim_end());
        Ok(Exit::Done)
    }
}

/// The heading of a code's page.
fn title(code: &str) -> &'static str {
    pipekeeper_spec::explain(code)
        .and_then(|page| page.lines().next())
        .map(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.strip_prefix(code)
                .map_or(line, |rest| rest.trim_start_matches([':', ' ', '–', '-']))
        })
        .unwrap_or_default()
}
