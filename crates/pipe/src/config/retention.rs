//! `[retention]`: how long ended runs are kept, and how much of them.

use pipekeeper_controller::Retention;
use pipekeeper_model::Millis;

use super::{raw::RawRetention, size};
use crate::failure::Failure;

pub(super) fn retention(raw: &RawRetention) -> Result<Retention, Failure> {
    let default = Retention::default();
    Ok(Retention {
        runs: length("retention.runs", raw.runs.as_deref(), default.runs)?,
        logs: length("retention.logs", raw.logs.as_deref(), default.logs)?,
        artifacts: length("retention.artifacts", raw.artifacts.as_deref(), default.artifacts)?,
        log_bytes: size("retention.max_logs", raw.max_logs.as_deref(), default.log_bytes)?,
        artifact_bytes: size(
            "retention.max_artifacts",
            raw.max_artifacts.as_deref(),
            default.artifact_bytes,
        )?,
    })
}

fn length(key: &str, text: Option<&str>, default: Millis) -> Result<Millis, Failure> {
    let Some(text) = text else { return Ok(default) };
    let length: Millis = text
        .parse()
        .map_err(|error| Failure::usage(format!("`{key}`: failed to {error}")))?;
    if length < Millis::hours(1) {
        return Err(
            Failure::usage(format!("`{key}` is `{text}`, which is less than an hour"))
                .hint("write it like `14d`"),
        );
    }
    Ok(length)
}
