//! What a scripted attempt does. Entry type: [`Play`].

use std::collections::BTreeMap;

use pipekeeper_model::{ArtifactResult, AttemptOutcome, OutputValue, TestCounts};

use crate::{Launch, LaunchError, LaunchScript};

/// What one attempt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    /// Why its launch does not work.
    pub refusal: Option<LaunchError>,
    /// Whether it ever asks for its ticket.
    pub checks_in: bool,
    /// How many observations of it pass before it ends; 0 is at once.
    pub after: u32,
    /// How it ends.
    pub ending: Ending,
    /// How often everything about it is observed.
    pub times: u32,
    /// The text of its log.
    pub log: String,
    /// The outputs of its success.
    pub outputs: BTreeMap<String, OutputValue>,
    /// The artifacts of its success; nothing is made of them.
    pub artifacts: Vec<ArtifactResult>,
    /// Its summary.
    pub summary: Option<String>,
    /// What its test reports say; nothing is made of them.
    pub tests: Option<TestCounts>,
}

/// How a scripted attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Well.
    Succeed,
    /// With this exit code.
    Fail {
        /// The code.
        code: i32,
    },
    /// With a record of this outcome.
    End(AttemptOutcome),
    /// Without a record.
    Vanish,
    /// Only when it is stopped.
    Hang,
}

impl Default for Play {
    fn default() -> Self {
        Self {
            refusal: None,
            checks_in: true,
            after: 0,
            ending: Ending::Succeed,
            times: 1,
            log: String::new(),
            outputs: BTreeMap::new(),
            artifacts: Vec::new(),
            summary: None,
            tests: None,
        }
    }
}

impl Play {
    /// The play that the steps of a launch describe.
    pub fn of_launch(launch: &Launch) -> Self {
        Self::of_texts(launch.steps.iter().map(|step| match &step.script {
            LaunchScript::Shell { text, .. } => text.as_str(),
            LaunchScript::Command(argv) => argv.first().map_or("", String::as_str),
        }))
    }

    /// The play that texts describe, line by line: `fail 3`, `hang`, `vanish`, `errored`, `timed-out`,
    /// `never-check-in`, `after 2`, `twice`, `output key=value`, `print text`, `refuse` and `refuse-for-now`.
    ///
    /// Any other line does nothing, so real scripts succeed.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut play = Self::default();
        texts
            .into_iter()
            .flat_map(str::lines)
            .for_each(|line| play.add(line.trim()));
        play
    }

    fn add(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let reason = || "the script says so".to_owned();
        match word {
            "fail" => {
                self.ending = Ending::Fail {
                    code: rest.parse().unwrap_or(1),
                }
            }
            "hang" => self.ending = Ending::Hang,
            "vanish" => self.ending = Ending::Vanish,
            "errored" => self.ending = Ending::End(AttemptOutcome::Errored),
            "timed-out" => self.ending = Ending::End(AttemptOutcome::TimedOut),
            "never-check-in" => self.checks_in = false,
            "after" => self.after = rest.parse().unwrap_or(0),
            "twice" => self.times = 2,
            "print" => {
                self.log.push_str(rest);
                self.log.push('\n');
            }
            "output" => {
                let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
                self.outputs.insert(key.to_owned(), value.into());
            }
            "refuse" => self.refusal = Some(LaunchError::Terminal { reason: reason() }),
            "refuse-for-now" => self.refusal = Some(LaunchError::Transient { reason: reason() }),
            _ => {}
        }
    }
}
