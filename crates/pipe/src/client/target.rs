//! What a command is about: a run, an action of it, or whatever HEAD's newest run is.

use std::str::FromStr;

use pipekeeper_model::Sha;
use pipekeeper_source::working_tree::describe;

use super::{Client, RunItem, view};
use crate::{cmd::working_folder, failure::Failure};

/// `57`, `57/test`, `test`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The run; without one, the newest of HEAD.
    pub(crate) run: Option<u64>,
    /// The action.
    pub(crate) action: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (run, action) = match text.split_once('/') {
            Some((run, action)) => (run, Some(action)),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => (text, None),
            None => ("", Some(text)),
        };
        let run = match run {
            "" => None,
            digits => Some(
                digits
                    .parse()
                    .map_err(|_| format!("`{digits}` is no run: write RUN, RUN/ACTION or ACTION"))?,
            ),
        };
        match action {
            Some("") => Err("the action's name is missing after the `/`".to_owned()),
            action => Ok(Self {
                run,
                action: action.map(str::to_owned),
            }),
        }
    }
}

/// A run's number, for commands that are about no action.
pub(crate) fn run_number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no run: write its number; `pipe runs` lists the runs"))
}

/// The run to change: the given one, else HEAD's newest. Where there is no HEAD nothing is guessed.
pub(crate) async fn find_run_to_change(client: &Client, given: Option<u64>) -> Result<u64, Failure> {
    if given.is_none() && head()?.is_none() {
        return Err(Failure::usage("which run? no commit is checked out here")
            .hint("name the run by its number; `pipe runs` lists the runs"));
    }
    find_run(client, given).await
}

fn head() -> Result<Option<Sha>, Failure> {
    Ok(describe(&working_folder()?).and_then(|tree| tree.sha))
}

/// The run that is meant: the given one, else HEAD's newest, else the newest of all where there is no HEAD.
pub(crate) async fn find_run(client: &Client, given: Option<u64>) -> Result<u64, Failure> {
    if let Some(run) = given {
        return Ok(run);
    }
    let sha = head()?;
    let mut query = vec![("limit", "1".to_owned())];
    query.extend(sha.as_ref().map(|sha| ("sha", sha.to_string())));
    let answer = client.get(&["runs"], &query).await?;
    let runs: Vec<RunItem> = view(answer.get("runs").cloned().unwrap_or_default())?;
    runs.first().map(|run| run.id).ok_or_else(|| {
        match sha {
            Some(sha) => Failure::not_found(format!("no run of HEAD ({}) is known", sha.short())),
            None => Failure::not_found("there is no run yet"),
        }
        .hint("`pipe runs` lists the runs; name one by its number")
    })
}

#[cfg(test)]
mod tests {
    use super::{Target, run_number};

    #[test]
    fn targets_are_short_to_write() {
        let target = |run, action: Option<&str>| Target {
            run,
            action: action.map(str::to_owned),
        };
        assert_eq!("57".parse(), Ok(target(Some(57), None)));
        assert_eq!("57/test[db=a]".parse(), Ok(target(Some(57), Some("test[db=a]"))));
        assert_eq!("test".parse(), Ok(target(None, Some("test"))));
        assert_eq!("/7".parse(), Ok(target(None, Some("7"))));
        assert!("x/test".parse::<Target>().is_err());
        assert!("57/".parse::<Target>().is_err());
        assert_eq!(run_number("57"), Ok(57));
        for wrong in ["abc", "57/test", "", "-1"] {
            assert!(run_number(wrong).is_err(), "{wrong}");
        }
    }
}
