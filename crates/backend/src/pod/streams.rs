//! How many control streams a cluster bears at once, and who has one. Entry type: [`Streams`].
//!
//! Who wants one while all places are taken waits, and meanwhile those who have one and do not need it now give it up for a
//! while: a pod works on without it, and its log is read on from where it was.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

/// How control streams are shared where there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimit {
    /// How many there may be at once.
    pub most: usize,
    /// After so long without output a stream is given up for those who wait.
    pub quiet: Duration,
    /// The same, whatever comes.
    pub turn: Duration,
    /// How long one without a stream waits for its next, unless something happens to its pod.
    pub parked: Duration,
}

impl Default for StreamLimit {
    fn default() -> Self {
        Self {
            most: 200,
            quiet: Duration::from_secs(10),
            turn: Duration::from_secs(60),
            parked: Duration::from_secs(30),
        }
    }
}

/// The places for streams.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    limit: StreamLimit,
    /// How many wait for one.
    waiting: watch::Sender<usize>,
}

/// A place for a stream, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// Somebody waits as long as this is there.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Streams {
    pub(super) fn new(limit: StreamLimit) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limit.most)),
            limit,
            waiting: watch::Sender::new(0),
        }
    }

    /// Takes a place, the first who asked first; none only when nobody needs one any more.
    pub(super) async fn place(&self) -> Option<Place> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::begin(&self.waiting);
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Tells whenever somebody begins to wait, or waits no more.
    pub(super) fn crowd(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    /// When a stream is to be given up that was opened and had its last output then; never while nobody waits.
    pub(super) fn give_up_at(&self, opened: Instant, loud: Instant) -> Option<Instant> {
        let limit = self.limit;
        (*self.waiting.borrow() > 0).then(|| (loud + limit.quiet).min(opened + limit.turn))
    }

    /// How long one who gave a stream up waits for the next.
    pub(super) fn parked(&self) -> Duration {
        self.limit.parked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_are_given_up_only_while_somebody_waits() {
        let streams = Arc::new(Streams::new(StreamLimit {
            most: 1,
            ..StreamLimit::default()
        }));
        let first = streams.place().await.unwrap();
        let now = Instant::now();
        assert_eq!(streams.give_up_at(now, now), None);
        let mut crowd = streams.crowd();
        let asks = Arc::clone(&streams);
        let second = tokio::spawn(async move { asks.place().await.is_some() });
        crowd.changed().await.unwrap();
        let limit = StreamLimit::default();
        assert_eq!(streams.give_up_at(now, now), Some(now + limit.quiet));
        let loud = now + limit.turn;
        assert_eq!(streams.give_up_at(now, loud), Some(now + limit.turn));
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(streams.give_up_at(now, now), None);
    }
}
