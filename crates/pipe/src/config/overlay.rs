//! Keys from the environment: `PIPE_LISTEN`, `PIPE_LOG__LEVEL`, `PIPE_PROJECTS__WEB__HOOK_SECRET_FILE`.

use super::LogFormat;
use super::raw::{Raw, RawProject, RawRetention};
use crate::failure::Failure;

/// Puts variables over the file's keys. Other `PIPE_…` variables belong to scripts and to the client.
pub(super) fn apply(raw: &mut Raw, vars: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    for (name, value) in vars {
        let Some(key) = name.strip_prefix("PIPE_") else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        let path: Vec<&str> = key.split("__").collect();
        set(raw, &path, value)
            .map_err(|problem| Failure::usage(format!("the environment variable `{name}` {problem}")))?;
    }
    Ok(())
}

fn set(raw: &mut Raw, path: &[&str], value: String) -> Result<(), String> {
    match path {
        ["listen"] => raw.listen = Some(value),
        ["url"] => raw.url = Some(value),
        ["artifacts_url"] => raw.artifacts_url = Some(value),
        ["behind_proxy"] => {
            raw.behind_proxy = match value.as_str() {
                "true" => true,
                "false" => false,
                other => return Err(format!("is `{other}`, neither `true` nor `false`")),
            };
        }
        ["data_dir"] => raw.data_dir = Some(value.into()),
        ["master_key_file"] => raw.master_key_file = Some(value.into()),
        ["kinds"] => raw.kinds = Some(value.into()),
        ["database"] => raw.database = Some(value),
        ["database_password_file"] => raw.database_password_file = Some(value.into()),
        ["log", "format"] => {
            raw.log.format = Some(match value.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => return Err(format!("is `{other}`, neither `text` nor `json`")),
            });
        }
        ["log", "level"] => raw.log.level = Some(value),
        ["artifacts", "max"] => raw.artifacts.max = Some(value),
        ["caches", "project"] => raw.caches.project = Some(value),
        ["caches", "total"] => raw.caches.total = Some(value),
        ["retention", key] => set_retention(&mut raw.retention, key, value)?,
        ["projects", name, key] => set_project(project(raw, name), key, value)?,
        ["log" | "artifacts" | "caches" | "retention" | "projects", ..] => {
            return Err("names no key of the configuration".to_owned());
        }
        _ => {}
    }
    Ok(())
}

fn set_retention(retention: &mut RawRetention, key: &str, value: String) -> Result<(), String> {
    let place = match key {
        "runs" => &mut retention.runs,
        "logs" => &mut retention.logs,
        "artifacts" => &mut retention.artifacts,
        "max_logs" => &mut retention.max_logs,
        "max_artifacts" => &mut retention.max_artifacts,
        _ => return Err("names no key of the configuration".to_owned()),
    };
    *place = Some(value);
    Ok(())
}

/// The project that a variable means: its name in upper case, `_` for what variables cannot hold.
fn project<'a>(raw: &'a mut Raw, name: &str) -> &'a mut RawProject {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let known = raw
        .projects
        .keys()
        .find(|known| plain(known) == plain(name))
        .cloned();
    raw.projects
        .entry(known.unwrap_or_else(|| name.to_owned()))
        .or_default()
}

fn set_project(project: &mut RawProject, key: &str, value: String) -> Result<(), String> {
    match key {
        "forge" => {
            project.forge = Some(
                value
                    .parse()
                    .map_err(|error| format!("is wrong: failed to {error}"))?,
            )
        }
        "repository" => project.repository = Some(value),
        "plain_http" => project.plain_http = switch(&value)?,
        // A secret from the environment replaces the file's, whichever of the two forms either has.
        "hook_secret" => {
            project.hook_secret = Some(value);
            project.hook_secret_file = None;
        }
        "hook_secret_file" => {
            project.hook_secret_file = Some(value.into());
            project.hook_secret = None;
        }
        "trusted" => project.trusted = switch(&value)?,
        "backend" => project.backend = Some(value),
        "default_branch" => project.default_branch = Some(value),
        "protected_branches" => project.protected_branches = Some(list(&value)),
        "protected_tags" => project.protected_tags = Some(list(&value)),
        _ => return Err("names no key of a project".to_owned()),
    }
    Ok(())
}

fn switch(value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("is `{value}`, neither `true` nor `false`"))
}

fn list(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}
