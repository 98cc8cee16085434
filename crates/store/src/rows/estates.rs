//! Rows of what ended runs left.

use serde::de::DeserializeOwned;

use crate::{Part, StoredEstate};

use super::{Cells, Unreadable, json, summary};

/// An estate from its row, joined with its run's.
pub(crate) fn stored_estate(row: &impl Cells) -> Result<StoredEstate, Unreadable> {
    Ok(StoredEstate {
        run: summary(row)?,
        left: json(row, "body")?,
        logs_gone: json_or_null(row, loss_column(Part::Logs))?,
        artifacts_gone: json_or_null(row, loss_column(Part::Artifacts))?,
    })
}

/// The column that says of a part that it is gone.
pub(crate) fn loss_column(part: Part) -> &'static str {
    match part {
        Part::Logs => "logs_gone",
        Part::Artifacts => "artifacts_gone",
    }
}

fn json_or_null<T: DeserializeOwned>(row: &impl Cells, column: &str) -> Result<Option<T>, Unreadable> {
    let found = row.text_or_null(column)?;
    Ok(found.as_deref().map(serde_json::from_str).transpose()?)
}
