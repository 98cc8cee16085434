//! Logins that failed: in the log and in the audit log, as far as whoever tries cannot fill them.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use pipekeeper_model::{Actor, Name, Timestamp};
use pipekeeper_store::AuditEntry;

use super::People;

/// Failed logins that are written down for one address: so many at once, then so many a minute.
const NOTED: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");
/// The same for all addresses together.
const ALL_NOTED: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");
/// Addresses that are remembered at the most before those that were quiet are forgotten.
const ADDRESSES: usize = 10_000;

/// How many are written down.
pub(super) struct Refusals {
    by_address: DefaultKeyedRateLimiter<Option<IpAddr>>,
    all: DefaultDirectRateLimiter,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            by_address: RateLimiter::keyed(Quota::per_minute(NOTED)),
            all: RateLimiter::direct(Quota::per_minute(ALL_NOTED)),
        }
    }

    fn is_noted(&self, from: Option<IpAddr>) -> bool {
        if self.by_address.len() > ADDRESSES {
            self.by_address.retain_recent();
        }
        self.by_address.check_key(&from).is_ok() && self.all.check().is_ok()
    }
}

impl People {
    /// Writes down that somebody was not let in. What they typed is named only if it is a user's name: it may be a password.
    pub(crate) async fn note_refusal(
        &self,
        (name, why): (Option<&Name>, &str),
        from: Option<IpAddr>,
        now: Timestamp,
    ) {
        if !self.refusals.is_noted(from) {
            return;
        }
        let name = name.map_or("?", Name::as_str);
        let from = from.map(|address| address.to_string());
        let address = from.as_deref().unwrap_or("?");
        tracing::warn!(user.name = name, address, "a login was refused: {why}");
        let entry = AuditEntry {
            at: now,
            actor: Actor::user("nobody"),
            from,
            verb: "login.refused".to_owned(),
            subject: format!("user/{name}"),
            project: None,
            before: None,
            after: None,
            reason: Some(why.to_owned()),
        };
        // Whoever was refused hears that, and not that it could not be noted.
        if let Err(error) = self.registry.change(Vec::new(), vec![entry]).await {
            tracing::warn!("a refused login is not in the audit log: {error}");
        }
    }
}
