//! The documents of the folder that the configuration names: applied at every start, before anything is made of them.

use pipekeeper_model::{Name, Timestamp};
use pipekeeper_spec::document::{Document, Kind};
use pipekeeper_store::Registry;

use super::{Desk, Mode, Origin, What, apply};
use crate::{
    Composer, Vault,
    error::{ApiError, Problem},
    people::Caller,
};

/// How often it is tried again because another server changed one of them meanwhile.
const TRIES: u32 = 5;

/// Makes the documents of the folder true; which of them changed. What is there already as it should be stays untouched, so
/// that servers with the same folder do not fight.
///
/// # Errors
/// What is wrong with them; then nothing is changed.
pub async fn configure(
    (registry, vault, composer): (&dyn Registry, &Vault, &dyn Composer),
    set: Vec<Document>,
    now: Timestamp,
) -> Result<Vec<(Kind, Name)>, String> {
    let desk = Desk {
        registry,
        vault,
        composer,
    };
    let caller = Caller::configuration();
    let mut tries = 0;
    let steps = loop {
        let how = (Mode::Apply, now);
        match apply(desk, &caller, (set.clone(), Origin::Folder), how).await {
            Err(error) if error.problem() == Problem::Conflict && tries < TRIES => tries += 1,
            other => break other.map_err(|error: ApiError| error.detail().to_owned())?,
        }
    };
    let changed = steps.into_iter().filter(|step| step.what != What::Unchanged);
    Ok(changed.map(|step| (step.kind, step.name)).collect())
}
