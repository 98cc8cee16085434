//! `pipe explain CODE` and `pipe explain KIND[.KEY]`.

use clap::Args;
use pipekeeper_spec::document::{Kind, explain_key};

use crate::{
    failure::{Exit, Failure},
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A code, a kind of document or one of its keys; without any, all codes and kinds are listed
    code: Option<String>,
}

impl Explain {
    /// Prints the page.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let Some(code) = self.code else {
            for code in pipekeeper_spec::codes() {
                term::say(format_args!("{code}  {}", title(code)));
            }
            for kind in Kind::ALL {
                term::say(format_args!("{kind}  {}", kind.help()));
            }
            return Ok(Exit::Done);
        };
        let page = pipekeeper_spec::explain(&code).map(str::to_owned);
        let page = page.or_else(|| explain_key(&code)).ok_or_else(|| {
            Failure::not_found(format!("there is no code, kind or key `{code}`"))
                .hint("`pipe explain` lists codes and kinds, `pipe explain KIND` the keys of one")
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
