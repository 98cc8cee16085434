//! What Postgres's errors mean for those who asked.

use crate::{StoreError, writer::Blame};

/// Whom this error concerns.
pub(super) fn blame(error: &sqlx::Error) -> Blame {
    match code(error).as_deref().and_then(|code| code.get(..2)) {
        // Data, constraints, conflicts with other transactions, limits of room and programs, and what triggers refuse.
        Some("22" | "23" | "40" | "53" | "54" | "P0") => Blame::Operation,
        Some(_) | None => Blame::Database,
    }
}

/// Whether the same transaction may well succeed if it is tried again: serialization failures and deadlocks.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// The error as callers see it.
pub(super) fn to_store_error(error: &sqlx::Error) -> StoreError {
    if matches!(error, sqlx::Error::PoolClosed) {
        return StoreError::Closed;
    }
    let reason = match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None if matches!(error, sqlx::Error::PoolTimedOut) => "the database does not answer".to_owned(),
        None => error.to_string(),
    };
    match code(error).as_deref() {
        Some("XX001" | "XX002") => StoreError::Corrupt {
            what: "the database".to_owned(),
            reason,
        },
        Some(_) | None => StoreError::Unavailable { reason },
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
