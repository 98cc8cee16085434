//! What SQLite's errors mean for those who asked.

use sqlx::error::DatabaseError;

use crate::{StoreError, writer::Blame};

/// Whom this error concerns.
pub(super) fn blame(error: &sqlx::Error) -> Blame {
    match error.as_database_error().and_then(primary_code) {
        // Error, abort, full, too big, constraint, mismatch, range.
        Some(1 | 4 | 13 | 18 | 19 | 20 | 25) => Blame::Operation,
        Some(_) | None => Blame::Database,
    }
}

/// The error as callers see it.
pub(super) fn to_store_error(error: &sqlx::Error) -> StoreError {
    if matches!(error, sqlx::Error::PoolClosed) {
        return StoreError::Closed;
    }
    let reason = match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    };
    match error.as_database_error().and_then(primary_code) {
        // Corrupt, not a database.
        Some(11 | 26) => StoreError::Corrupt {
            what: "the database".to_owned(),
            reason,
        },
        Some(_) | None => StoreError::Unavailable { reason },
    }
}

/// SQLite's result code without its extension.
fn primary_code(error: &(dyn DatabaseError + 'static)) -> Option<i32> {
    Some(error.code()?.parse::<i32>().ok()? & 0xff)
}
