//! `pipe schema`.

use clap::Args;
use pipekeeper_spec::document::{Kind, document_schema, documents_schema};

use crate::{
    failure::{Exit, Failure, OrFail},
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Print that of documents; `--kinds=Environment` of one kind alone
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "KIND")]
    kinds: Option<Option<Kind>>,
}

impl Schema {
    /// Prints the JSON Schema.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let schema = match self.kinds {
            None => pipekeeper_spec::schema(),
            Some(None) => documents_schema(),
            Some(Some(kind)) => document_schema(kind),
        };
        term::say(serde_json::to_string_pretty(&schema).or_fail("write the schema")?);
        Ok(Exit::Done)
    }
}
