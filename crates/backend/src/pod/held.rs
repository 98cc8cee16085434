//! Which pods are held for people, as the failing step of their attempt left them, and until when. Entry type: [`HeldPods`].
//!
//! What is done with them is in [`keeper`](super::keeper).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use pipekeeper_model::{AttemptId, Millis, Timestamp};
use tokio::{sync::Notify, time::Instant};

use crate::LaunchError;

/// How the pods of failed attempts are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldOptions {
    /// For how long.
    pub failed: Duration,
    /// How many at once.
    pub max: usize,
}

/// The pods that are held.
#[derive(Default)]
pub(super) struct HeldPods {
    /// By their attempts, which ended.
    pods: Mutex<BTreeMap<AttemptId, Pod>>,
}

struct Pod {
    /// The container of the step that failed.
    container: usize,
    since: Instant,
    until: Instant,
    /// The same for people.
    until_time: Timestamp,
    stand: Stand,
    /// The namespace whose quota it takes.
    home: Option<String>,
    /// Whether it goes as soon as nobody looks into it.
    is_past: bool,
    /// Wakes whoever looks after it.
    changed: Arc<Notify>,
}

/// How a pod stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Its supervisor makes ready.
    Coming,
    /// Nobody looks into it.
    Free,
    /// Somebody does, until then at most, unless it is held for longer.
    Entered(Instant),
    /// It is about to be removed.
    Going,
}

/// What a person who looks into a pod must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entrance {
    pub(super) container: usize,
    pub(super) until: Timestamp,
}

impl HeldPods {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pod of this attempt is held, or about to be removed by whoever looks after it.
    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        self.pods().contains_key(&attempt)
    }

    /// Lets those of earlier attempts of the same action go: people look into the last one.
    pub(super) fn is_followed_by(&self, attempt: AttemptId) {
        let is_earlier =
            |id: &AttemptId| (id.run, id.node) == (attempt.run, attempt.node) && id.number < attempt.number;
        let mut pods = self.pods();
        for (_, pod) in pods.iter_mut().filter(|(id, _)| is_earlier(id)) {
            pod.is_past = true;
            pod.let_go();
        }
    }

    /// Takes a pod in. If there are too many, the one goes that has been there for longest; none goes that somebody looks
    /// into. What wakes whoever looks after it, unless there is no room.
    pub(super) fn admit(
        &self,
        attempt: AttemptId,
        (container, home): (usize, Option<String>),
        options: HoldOptions,
        now: Instant,
    ) -> Option<Arc<Notify>> {
        let mut pods = self.pods();
        while pods.values().filter(|pod| pod.stand != Stand::Going).count() >= options.max {
            if !let_oldest_go(pods.values_mut()) {
                return None;
            }
        }
        let changed = Arc::new(Notify::new());
        let pod = Pod {
            container,
            since: now,
            until: now + options.failed,
            until_time: present() + Millis(u64::try_from(options.failed.as_millis()).unwrap_or(u64::MAX)),
            stand: Stand::Coming,
            home,
            is_past: false,
            changed: Arc::clone(&changed),
        };
        pods.insert(attempt, pod);
        Some(changed)
    }

    /// Its supervisor is ready for people; when it goes.
    pub(super) fn is_ready(&self, attempt: AttemptId) -> Option<Timestamp> {
        let mut pods = self.pods();
        let pod = pods.get_mut(&attempt)?;
        if pod.stand == Stand::Coming {
            pod.stand = Stand::Free;
        }
        Some(pod.until_time)
    }

    /// When to ask this again; none if it is to be removed now.
    pub(super) fn due(&self, attempt: AttemptId, now: Instant) -> Option<Instant> {
        let mut pods = self.pods();
        let pod = pods.get_mut(&attempt)?;
        let due = match pod.stand {
            Stand::Going => return None,
            Stand::Coming | Stand::Free => pod.until,
            Stand::Entered(limit) => pod.until.max(limit),
        };
        if due <= now {
            pod.stand = Stand::Going;
            return None;
        }
        Some(due)
    }

    /// Lets somebody in, until `limit` at least; none if it is not held.
    ///
    /// # Errors
    /// If somebody looks into it already, or it is not ready yet.
    pub(super) fn enter(&self, attempt: AttemptId, limit: Instant) -> Result<Option<Entrance>, LaunchError> {
        let mut pods = self.pods();
        let Some(pod) = pods.get_mut(&attempt) else {
            return Ok(None);
        };
        match pod.stand {
            Stand::Going => Ok(None),
            Stand::Coming => Err(LaunchError::Terminal {
                reason: "its pod is just being made ready: call again in some seconds".to_owned(),
            }),
            Stand::Entered(_) => Err(occupied()),
            Stand::Free => {
                pod.stand = Stand::Entered(limit);
                Ok(Some(Entrance {
                    container: pod.container,
                    until: pod.until_time,
                }))
            }
        }
    }

    /// Nobody looks into it any more.
    pub(super) fn leave(&self, attempt: AttemptId) {
        if let Some(pod) = self.pods().get_mut(&attempt)
            && matches!(pod.stand, Stand::Entered(_))
        {
            pod.stand = if pod.is_past { Stand::Going } else { Stand::Free };
            pod.changed.notify_one();
        }
    }

    /// Lets a pod go before its time; false if it is not held.
    ///
    /// # Errors
    /// If somebody looks into it.
    pub(super) fn release(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        let mut pods = self.pods();
        match pods.get_mut(&attempt) {
            Some(pod) if matches!(pod.stand, Stand::Entered(_)) => Err(occupied()),
            Some(pod) => Ok(pod.let_go()),
            None => Ok(false),
        }
    }

    /// Lets the one go that has been there for longest in this namespace, as long as none goes already and nobody looks into
    /// it.
    pub(super) fn make_room(&self, home: Option<&str>) {
        let mut pods = self.pods();
        let mut there = pods.values_mut().filter(|pod| pod.home.as_deref() == home);
        if there.all(|pod| pod.stand != Stand::Going) {
            let_oldest_go(pods.values_mut().filter(|pod| pod.home.as_deref() == home));
        }
    }

    /// It is not there any more.
    pub(super) fn is_gone(&self, attempt: AttemptId) {
        self.pods().remove(&attempt);
    }
}

impl Pod {
    /// Lets it go unless somebody looks into it; false if that is so, or it goes already.
    fn let_go(&mut self) -> bool {
        match self.stand {
            Stand::Coming | Stand::Free => {
                self.stand = Stand::Going;
                self.changed.notify_one();
                true
            }
            Stand::Entered(_) | Stand::Going => false,
        }
    }
}

fn let_oldest_go<'a>(pods: impl Iterator<Item = &'a mut Pod>) -> bool {
    let idle = pods.filter(|pod| matches!(pod.stand, Stand::Coming | Stand::Free));
    idle.min_by_key(|pod| pod.since).is_some_and(Pod::let_go)
}

fn occupied() -> LaunchError {
    LaunchError::Terminal {
        reason: "somebody looks into its pod already (a connection that broke counts for 50 s); `pipe debug --new` makes another"
            .to_owned(),
    }
}

fn present() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{NodeId, RunId};

    use super::*;

    const OPTIONS: HoldOptions = HoldOptions {
        failed: Duration::from_secs(900),
        max: 2,
    };

    struct Scene {
        held: HeldPods,
        now: Instant,
    }

    fn attempt(node: u32, number: u32) -> AttemptId {
        AttemptId {
            run: RunId(1),
            node: NodeId(node),
            number,
        }
    }

    impl Scene {
        fn new() -> Self {
            Self {
                held: HeldPods::default(),
                now: Instant::now(),
            }
        }

        fn hold(&mut self, attempt: AttemptId) -> bool {
            self.now += Duration::from_secs(1);
            self.held.is_followed_by(attempt);
            let place = (0, Some("home".to_owned()));
            let admitted = self.held.admit(attempt, place, OPTIONS, self.now);
            admitted.is_some() && self.held.is_ready(attempt).is_some()
        }

        fn enters(&self, attempt: AttemptId) -> bool {
            let limit = self.now + Duration::from_secs(3600);
            matches!(self.held.enter(attempt, limit), Ok(Some(_)))
        }

        fn goes(&self, attempt: AttemptId) -> bool {
            self.held.due(attempt, self.now).is_none()
        }
    }

    #[test]
    fn the_oldest_goes_that_nobody_looks_into() {
        let mut scene = Scene::new();
        let [first, second, third, fourth] = [1, 2, 3, 4].map(|node| attempt(node, 1));
        assert!(scene.hold(first) && scene.hold(second) && scene.enters(first));
        assert!(scene.hold(third));
        let gone = [first, second, third].map(|one| scene.goes(one));
        assert_eq!(gone, [false, true, false]);
        assert!(scene.enters(third));
        assert!(!scene.hold(fourth), "both are looked into");
        assert!(!scene.held.has(fourth));
        scene.held.leave(third);
        scene.held.make_room(Some("home"));
        assert!(!scene.goes(third), "the second goes already");
        scene.held.is_gone(second);
        scene.held.make_room(Some("another"));
        assert!(!scene.goes(third), "it takes nothing from there");
        scene.held.make_room(Some("home"));
        assert!(scene.goes(third) && !scene.goes(first));
    }

    #[test]
    fn an_earlier_attempt_of_the_same_action_goes() {
        let mut scene = Scene::new();
        assert!(scene.hold(attempt(1, 1)) && scene.hold(attempt(1, 2)));
        assert!(scene.goes(attempt(1, 1)) && !scene.goes(attempt(1, 2)));
        scene.held.is_gone(attempt(1, 1));
        assert!(scene.enters(attempt(1, 2)));
        scene.held.is_followed_by(attempt(1, 3));
        assert!(!scene.goes(attempt(1, 2)), "somebody looks into it");
        scene.held.leave(attempt(1, 2));
        assert!(scene.goes(attempt(1, 2)));
    }

    #[test]
    fn its_time_ends_once_nobody_looks_into_it() {
        let mut scene = Scene::new();
        let [one, other] = [1, 2].map(|node| attempt(node, 1));
        assert!(scene.hold(one) && scene.enters(one));
        assert!(!scene.enters(one), "one person at a time");
        assert!(scene.held.release(one).is_err());
        scene.now += OPTIONS.failed;
        assert!(!scene.goes(one));
        scene.now += Duration::from_secs(3600);
        assert!(scene.goes(one), "a session has its limit");
        assert!(scene.hold(other) && scene.enters(other));
        scene.now += OPTIONS.failed;
        scene.held.leave(other);
        assert!(scene.goes(other) && !scene.enters(other));
        assert!(!scene.held.release(other).unwrap());
        scene.held.is_gone(other);
        assert!(!scene.held.has(other));
    }
}
