//! Secrets of a local run, from the command line, the environment or a file. Their values have no `Debug`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs,
    path::Path,
};

use pipekeeper_backend::{LaunchError, SecretValue};
use pipekeeper_model::{
    Plan,
    plan::{Body, Secret},
};

use crate::failure::{Failure, OrFail};

/// Values by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// The values of these secrets for an attempt.
    pub(crate) fn values(&self, wanted: &[Secret]) -> Result<Vec<SecretValue>, LaunchError> {
        wanted
            .iter()
            .map(|secret| {
                let value = self.0.get(&secret.name).ok_or_else(|| LaunchError::Terminal {
                    reason: format!("there is no secret `{}`", secret.name),
                })?;
                Ok(SecretValue {
                    pointer: None,
                    target: Some(secret.target.clone()),
                    value: value.clone(),
                })
            })
            .collect()
    }
}

/// The secrets of `--secret` and `--secrets-file`; the command line wins.
pub(crate) fn collect(given: &[String], file: Option<&Path>) -> Result<Secrets, Failure> {
    let mut all = match file {
        Some(path) => read_file(path)?,
        None => Secrets::default(),
    };
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (text.as_str(), from_environment(text)?),
        };
        if name.is_empty() {
            return Err(Failure::usage("a `--secret` has no name")
                .hint("write `--secret NAME=VALUE`, or `--secret NAME` to take it from the environment"));
        }
        all.0.insert(name.to_owned(), value);
    }
    Ok(all)
}

fn from_environment(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| {
        Failure::usage(format!("the secret `{name}` is not in the environment"))
            .hint(format!("export {name}, or write `--secret {name}=VALUE`"))
    })
}

/// A file of `NAME=VALUE` lines; empty lines and lines that start with `#` are skipped.
pub(crate) fn read_file(path: &Path) -> Result<Secrets, Failure> {
    let text = fs::read_to_string(path).or_usage(format_args!("read `{}`", path.display()))?;
    let mut all = Secrets::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line is not repeated: it may hold a value.
        let (name, value) = line.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "{}:{}: this is not of the form NAME=VALUE",
                path.display(),
                index + 1
            ))
        })?;
        all.0.insert(name.trim_end().to_owned(), value.to_owned());
    }
    Ok(all)
}

/// Refuses a plan with secrets that nobody gave, all of them at once.
pub(crate) fn require(plan: &Plan, secrets: &Secrets) -> Result<(), Failure> {
    let missing: BTreeSet<&str> = plan
        .nodes
        .iter()
        .flat_map(|node| match &node.body {
            Body::Work(work) => work.secrets.as_slice(),
            Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => &[],
        })
        .map(|secret| secret.name.as_str())
        .filter(|name| !secrets.0.contains_key(*name))
        .collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    Err(
        Failure::usage(format!("the pipeline wants secrets that were not given: {}", names.join(", "))).hint(
            format!("`--secret {first}=VALUE`, `--secret {first}` to take it from the environment, or `--secrets-file FILE`"),
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pipekeeper_model::plan::{Secret, SecretTarget};

    use super::collect;

    fn value(secrets: &super::Secrets, name: &str) -> Option<String> {
        let wanted = Secret {
            name: name.to_owned(),
            target: SecretTarget::Env(name.to_owned()),
        };
        Some(secrets.values(&[wanted]).ok()?.first()?.value.clone())
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets");
        fs::write(&file, "# comment\nA=from file\n\nB=x=y\n").unwrap();
        let secrets = collect(&["A=given".to_owned()], Some(&file)).unwrap();
        assert_eq!(value(&secrets, "A").as_deref(), Some("given"));
        assert_eq!(value(&secrets, "B").as_deref(), Some("x=y"));
        assert_eq!(value(&secrets, "C"), None);
        assert!(!format!("{secrets:?}").contains("given"));
    }

    #[test]
    fn a_broken_line_is_named_but_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets");
        fs::write(&file, "A=1\nhunter2\n").unwrap();
        let error = collect(&[], Some(&file)).unwrap_err();
        assert!(error.message.contains(":2: "), "{error}");
        assert!(!error.message.contains("hunter2"));
        assert!(collect(&["PIPE_TEST_NO_SUCH_VARIABLE".to_owned()], None).is_err());
    }
}
