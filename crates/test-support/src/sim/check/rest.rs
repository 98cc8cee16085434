//! Judges the end: when faults have stopped, everything ends in time, and nothing is left over.

use pipekeeper_model::{
    AttemptId, Millis,
    plan::{Body, Section, Start, WaitFor, defaults},
};
use pipekeeper_store::{Delivery, DeliveryOutcome, StoredEffect};

use super::{Ledger, book::Book};

impl Ledger {
    /// The runs that have not ended.
    pub(crate) fn open_runs(&self) -> impl Iterator<Item = &Book> {
        self.books
            .values()
            .filter(|book| book.request.is_some() && book.finished.is_none())
    }

    /// How long all open runs together may take at most, by the sum of their deadlines.
    pub(crate) fn time_left(&self) -> Millis {
        let all = self.open_runs().map(|book| bound(book).0).sum::<u64>();
        Millis(all).add(Millis::hours(2))
    }

    /// Nothing is left over when everything has ended.
    pub(crate) fn rest(&mut self, known: &[AttemptId], effects: &[StoredEffect], deliveries: &[Delivery]) {
        if !known.is_empty() {
            self.violate("I12", format!("the backend still has {known:?}"));
        }
        if let Some(effect) = effects.first() {
            self.violate("I12", format!("the outbox still has {:?}", effect.effect));
        }
        if let Some(delivery) = deliveries.iter().find(|delivery| delivery.outcome.is_none()) {
            self.violate("delivery", format!("delivery {} has no outcome", delivery.id.0));
        }
        let is_double =
            |delivery: &Delivery| matches!(delivery.outcome, Some(DeliveryOutcome::DuplicateOf { .. }));
        if deliveries.iter().any(is_double) {
            self.hits.push("guard delivery duplicate");
        }
        if let Some((owner, _)) = self.shared.holds.first_key_value() {
            self.violate("I12", format!("{owner:?} still has or wants locks"));
        }
        self.hits.push("guard I12 nothing left");
        let unstarted = self
            .books
            .values()
            .flat_map(|book| &book.tickets)
            .find(|(attempt, holder)| {
                let starts = self
                    .shared
                    .lived
                    .get(attempt)
                    .map(|lived| lived.starts.as_slice());
                starts.is_some_and(|starts| starts.iter().any(|starter| starter != *holder))
            });
        if let Some((attempt, _)) = unstarted {
            self.violate(
                "I7",
                format!("{attempt}: another supervisor started than the ticketed one"),
            );
        }
    }
}

trait Add {
    fn add(self, other: Self) -> Self;
}

impl Add for Millis {
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The sum of one run's deadlines.
fn bound(book: &Book) -> Millis {
    const MARGIN: Millis = Millis::minutes(2);
    // A search for an earlier success, then the launch.
    const START: u64 = 2 * defaults::CHECK_IN.0;
    let nodes = book.plan_nodes().iter().map(|node| {
        let start = match &node.start {
            Start::Auto => Millis(0),
            Start::Manual | Start::Confirm { .. } => defaults::GATE,
            Start::Timed(wait) => length(wait),
        };
        let body = match (&node.body, node.section) {
            (_, Section::Finally) => Millis(0),
            (Body::Work(_), Section::Main) => {
                let tries = u64::from(node.retry.attempts);
                let once = node.timeout.0 + MARGIN.0 + node.retry.backoff.0 * 8 + START;
                Millis(tries * once + 5 * (START + MARGIN.0))
            }
            // It may open once more when what is behind it asks for its ticket.
            (Body::Approve(_), Section::Main) => {
                let behind = u64::try_from(book.plan_nodes().len()).unwrap_or(u64::MAX);
                Millis(2 * node.timeout.0 + behind * (START + MARGIN.0))
            }
            (Body::Wait(wait), Section::Main) => length(&wait.wait_for),
            (Body::Promote(_) | Body::Sync(_) | Body::Call(_), Section::Main) => Millis(0),
        };
        let tries = u64::from(node.retry.attempts) + 6;
        let windows = match book.place_of(node) {
            Some((_, rule)) if !rule.windows.is_empty() => Millis(tries * Millis::days(1).0),
            Some(_) | None => Millis(0),
        };
        start.0 + body.0 + windows.0
    });
    Millis(nodes.sum::<u64>() + defaults::FINALLY.0 + MARGIN.0)
}

fn length(wait: &WaitFor) -> Millis {
    match wait {
        WaitFor::Elapsed { length } => *length,
        WaitFor::At { .. } | WaitFor::After { .. } | WaitFor::Between { .. } => Millis::days(1),
    }
}
