//! The namespaces that may hold pods of ours, and what came of listing each. Entry type: [`Listings`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Every namespace that may hold pods of ours.
#[derive(Default)]
pub(crate) struct Listings {
    namespaces: Mutex<BTreeMap<String, Namespace>>,
    answered: Notify,
}

/// What is known of a namespace.
struct Namespace {
    need: Need,
    listing: Listing,
}

/// Whether a namespace has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Pods of ours belong there.
    Expected,
    /// There are pods of ours only if it is there and open to us.
    Possible,
}

/// What came of listing a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listing {
    /// The cluster did not answer yet.
    Awaited,
    /// Its pods are known.
    Listed,
    /// It is not there.
    Absent,
    /// The cluster does not let us see its pods.
    Refused(String),
}

impl Listings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Namespace>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self, wanted: impl Fn(&Namespace) -> bool) -> Vec<String> {
        let all = self.lock();
        let wanted = all.iter().filter(|(_, known)| wanted(known));
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Those that are there, for all we know.
    pub(crate) fn there(&self) -> Vec<String> {
        self.names(|known| known.listing != Listing::Absent)
    }

    /// Those that pods of ours belong in.
    pub(crate) fn expected(&self) -> Vec<String> {
        self.names(|known| known.need == Need::Expected)
    }

    /// Those that the cluster did not answer about.
    pub(crate) fn awaited(&self) -> Vec<String> {
        self.names(|known| known.listing == Listing::Awaited)
    }

    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.is(name, |listing| *listing == Listing::Absent)
    }

    fn is(&self, name: &str, wanted: impl Fn(&Listing) -> bool) -> bool {
        self.lock().get(name).is_some_and(|known| wanted(&known.listing))
    }

    /// Notes a namespace; whether it is to be watched from now on.
    pub(crate) fn add(&self, name: &str, need: Need) -> bool {
        let mut all = self.lock();
        let is_watched = all
            .get(name)
            .is_some_and(|known| known.listing != Listing::Absent);
        if !is_watched {
            let listing = Listing::Awaited;
            all.insert(name.to_owned(), Namespace { need, listing });
        }
        !is_watched
    }

    /// One was listed.
    pub(crate) fn listed(&self, name: &str) {
        self.note(name, Listing::Listed);
    }

    /// One is not there, and nobody watches it any more.
    pub(crate) fn absent(&self, name: &str) {
        self.note(name, Listing::Absent);
    }

    /// The cluster does not let us list one. How much it is needed, if that is news.
    pub(crate) fn refused(&self, name: &str, cause: &str) -> Option<Need> {
        let refused = Listing::Refused(cause.to_owned());
        let (need, before) = self.note(name, refused.clone())?;
        (before != refused).then_some(need)
    }

    fn note(&self, name: &str, listing: Listing) -> Option<(Need, Listing)> {
        let mut all = self.lock();
        let known = all.get_mut(name)?;
        let before = std::mem::replace(&mut known.listing, listing);
        let need = known.need;
        drop(all);
        self.answered.notify_waiters();
        Some((need, before))
    }

    /// Waits until the cluster answered about one, if it is watched at all.
    pub(crate) async fn answered(&self, name: &str) {
        loop {
            let answered = self.answered.notified();
            if !self.is(name, |listing| *listing == Listing::Awaited) {
                return;
            }
            answered.await;
        }
    }

    /// Waits until the cluster answered about every one.
    pub(crate) async fn all_answered(&self) {
        loop {
            let answered = self.answered.notified();
            if self.awaited().is_empty() {
                return;
            }
            answered.await;
        }
    }

    /// What keeps us from knowing all pods of ours, or those of one namespace: one that is expected, and what the cluster says
    /// of it.
    pub(crate) fn hidden(&self, only: Option<&str>) -> Option<String> {
        self.lock()
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()))
            .find_map(|(name, known)| match (&known.listing, known.need) {
                (Listing::Refused(cause), Need::Expected) => {
                    Some(format!("the pods in `{name}` cannot be seen: {cause}"))
                }
                (Listing::Refused(_), Need::Possible)
                | (Listing::Awaited | Listing::Listed | Listing::Absent, _) => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_news_once_and_hides_only_what_is_expected() {
        let listings = Listings::default();
        assert!(listings.add("a", Need::Possible) && listings.add("b", Need::Expected));
        assert!(!listings.add("b", Need::Possible));
        assert_eq!(listings.refused("a", "no"), Some(Need::Possible));
        assert_eq!(listings.hidden(None), None);
        assert_eq!(listings.refused("b", "no"), Some(Need::Expected));
        assert_eq!(listings.refused("b", "no"), None);
        assert_eq!(listings.refused("b", "never"), Some(Need::Expected));
        assert_eq!(
            listings.hidden(None).as_deref(),
            Some("the pods in `b` cannot be seen: never")
        );
        assert_eq!(listings.hidden(Some("b")), listings.hidden(None));
        assert_eq!(listings.hidden(Some("c")), None);
        listings.listed("b");
        assert_eq!((listings.hidden(None), listings.awaited()), (None, Vec::new()));
    }

    #[test]
    fn one_that_was_not_there_is_watched_once_it_is() {
        let listings = Listings::default();
        listings.add("a", Need::Expected);
        listings.absent("a");
        assert!(listings.is_absent("a") && listings.there().is_empty());
        assert!(listings.add("a", Need::Expected));
        assert_eq!(
            (listings.there(), listings.expected()),
            (vec!["a".to_owned()], vec!["a".to_owned()])
        );
    }
}
