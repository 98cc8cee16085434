//! What a supervisor is told, from what the controller asks. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use pipekeeper_agent::protocol::{
    ArtifactSpec, AttemptSpec, KeepWorkspace as KeepSpec, Orphan as OrphanSpec, Pointed, Script, SecretText,
    SecretValue as SecretSpec, Shell as ShellSpec, StepSpec, StoreAccess, ToAgent, ValueSpec,
};
use pipekeeper_model::{
    Digest, Holder, OutputFile,
    plan::{SecretTarget, Shell},
};

use crate::{KeepWorkspace, Launch, LaunchScript, LaunchStep, Orphan, SecretValue, Ticket};

/// The spec of an attempt without files that come from elsewhere: source, inputs and caches.
pub(crate) fn to_spec(launch: &Launch, log: PathBuf) -> AttemptSpec {
    let attempt = launch.attempt.to_string();
    AttemptSpec {
        steps: launch.steps.iter().map(to_step).collect(),
        env: launch.env.clone(),
        env_files: places(&launch.env_files),
        artifacts: (launch.artifacts.iter())
            .map(|(name, artifact)| ArtifactSpec {
                name: name.to_string(),
                paths: artifact.paths.clone(),
                always: artifact.always,
            })
            .collect(),
        reports: launch.reports.junit.clone(),
        timeout_ms: Some(launch.timeout.0),
        grace_ms: launch.grace.0,
        log_limit: launch.log_limit,
        keep_workspace: match launch.keep_workspace {
            KeepWorkspace::Never => KeepSpec::Never,
            KeepWorkspace::OnFailure => KeepSpec::OnFailure,
            KeepWorkspace::Always => KeepSpec::Always,
        },
        orphan: match launch.orphan {
            Orphan::WorkOn => OrphanSpec::WorkOn,
            Orphan::StopAfter(after) => OrphanSpec::StopAfter { ms: after.0 },
        },
        // The folder is private to this host and user, so the id itself proves whose record lies in it.
        ..AttemptSpec::new(attempt.clone(), attempt, log)
    }
}

/// The spec of the outputs that come as files, each at `file` on the supervisor's side.
pub(crate) fn to_values(launch: &Launch, file: impl Fn(&Digest) -> PathBuf) -> Vec<ValueSpec> {
    let files = launch.output_files().into_iter();
    files
        .map(|(place, digest)| ValueSpec {
            file: file(digest),
            place: place.to_owned(),
            sha256: digest.to_hex(),
        })
        .collect()
}

fn places(files: &BTreeMap<String, OutputFile>) -> BTreeMap<String, String> {
    let places = files.iter();
    places
        .map(|(name, file)| (name.clone(), file.place.clone()))
        .collect()
}

/// The message that answers a check-in.
pub(crate) fn to_answer(holder: &Holder, ticket: Ticket, store: StoreAccess) -> ToAgent {
    match ticket {
        Ticket::Go { secrets } => ToAgent::Go {
            holder: holder.0.clone(),
            mask: secrets
                .iter()
                .filter(|secret| !is_program(secret))
                .map(|secret| SecretText::new(secret.value.as_str()))
                .collect(),
            secrets: secrets.into_iter().filter_map(to_secret).collect(),
            store,
        },
        Ticket::Exit => ToAgent::Exit,
    }
}

/// The lines of a program are nobody's secret; what it tells is masked by itself.
fn is_program(secret: &SecretValue) -> bool {
    let pointer = secret.pointer.as_ref();
    pointer.is_some_and(|pointer| pointer.at == Pointed::Program)
}

fn to_secret(secret: SecretValue) -> Option<SecretSpec> {
    let (env, file) = match secret.target? {
        SecretTarget::Env(name) => (Some(name), None),
        SecretTarget::File(path) => (None, Some(path)),
    };
    Some(SecretSpec {
        env,
        file,
        pointer: secret.pointer,
        value: SecretText::new(secret.value),
    })
}

fn to_step(step: &LaunchStep) -> StepSpec {
    StepSpec {
        name: step.name.clone(),
        script: match &step.script {
            LaunchScript::Shell { shell, text, line } => Script::Shell {
                shell: match shell {
                    Shell::Sh => ShellSpec::Sh,
                    Shell::Bash => ShellSpec::Bash,
                },
                text: text.clone(),
                line: *line,
            },
            LaunchScript::Command(argv) => Script::Command { argv: argv.clone() },
        },
        env: step.env.clone(),
        env_files: places(&step.env_files),
        timeout_ms: step.timeout.map(|limit| limit.0),
        working_dir: step.working_dir.clone(),
        container: 0,
    }
}
