//! What a supervisor is told, from what the controller asks. Pure but for the working folder in relative paths.

use pipekeeper_agent::protocol::{
    ArtifactSpec, AttemptSpec, CacheCandidate, CacheSpec, InputSpec, KeepWorkspace as KeepSpec,
    Orphan as OrphanSpec, Script, SecretText, SecretValue as SecretSpec, Shell as ShellSpec, StepSpec,
    ToAgent, WorkspaceSpec,
};
use pipekeeper_model::{
    Holder,
    plan::{SecretTarget, Shell},
};

use super::{LocalOptions, absolute, artifacts::artifact_path};
use crate::{
    CacheMount, KeepWorkspace, Launch, LaunchScript, LaunchStep, Orphan, SecretValue, SourceInput, Ticket,
};

/// The spec of an attempt.
pub(super) fn to_spec(launch: &Launch, options: &LocalOptions) -> AttemptSpec {
    let attempt = launch.attempt.to_string();
    let mut env = options.host_env.clone();
    env.extend(launch.env.clone());
    AttemptSpec {
        steps: launch.steps.iter().map(to_step).collect(),
        env,
        workspace: match &launch.source {
            SourceInput::Empty => WorkspaceSpec::Empty,
            SourceInput::Folder(path) => WorkspaceSpec::CopyOf { path: absolute(path) },
            SourceInput::Archive(path) => WorkspaceSpec::Archive { path: absolute(path) },
        },
        inputs: (launch.inputs.iter())
            .map(|input| InputSpec {
                archive: artifact_path(&options.artifacts, &input.digest),
                into: input.into.clone(),
                sha256: input.digest.to_hex(),
            })
            .collect(),
        artifacts: (launch.artifacts.iter())
            .map(|(name, artifact)| ArtifactSpec {
                name: name.to_string(),
                paths: artifact.paths.clone(),
                always: artifact.always,
            })
            .collect(),
        caches: launch.caches.iter().map(to_cache).collect(),
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
        ..AttemptSpec::new(attempt.clone(), attempt, absolute(&launch.log))
    }
}

/// The message that answers a check-in.
pub(super) fn to_answer(holder: &Holder, ticket: Ticket) -> ToAgent {
    match ticket {
        Ticket::Go { secrets } => ToAgent::Go {
            holder: holder.0.clone(),
            mask: secrets
                .iter()
                .map(|secret| SecretText::new(secret.value.as_str()))
                .collect(),
            secrets: secrets.into_iter().filter_map(to_secret).collect(),
        },
        Ticket::Exit => ToAgent::Exit,
    }
}

fn to_secret(secret: SecretValue) -> Option<SecretSpec> {
    let (env, file) = match secret.target? {
        SecretTarget::Env(name) => (Some(name), None),
        SecretTarget::File(path) => (None, Some(path)),
    };
    Some(SecretSpec {
        env,
        file,
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
        timeout_ms: step.timeout.map(|limit| limit.0),
        working_dir: step.working_dir.clone(),
    }
}

fn to_cache(cache: &CacheMount) -> CacheSpec {
    let key = cache
        .exact
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let exact = CacheCandidate {
        path: absolute(&cache.exact),
        exact: true,
    };
    let fallbacks = cache.fallbacks.iter().map(|path| CacheCandidate {
        path: absolute(path),
        exact: false,
    });
    CacheSpec {
        name: cache.name.to_string(),
        key,
        restore: std::iter::once(exact).chain(fallbacks).collect(),
        paths: cache.paths.clone(),
        save_to: cache.save_to.as_deref().map(absolute),
    }
}
