//! `pipe schema`.

use crate::{
    failure::{Exit, Failure, OrFail},
    term,
};

/// Prints the JSON Schema of pipeline files.
pub(crate) fn run() -> Result<Exit, Failure> {
    let text = serde_json::to_string_pretty(&pipekeeper_spec::schema()).or_fail("write the schema")?;
    term::say(text);
    Ok(Exit::Done)
}
