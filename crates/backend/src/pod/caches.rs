//! The archive caches of an attempt in its order: what each is restored from, and where it is saved.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pipekeeper_agent::protocol::{AttemptDir, AttemptSpec, CacheCandidate, CacheSpec};
use pipekeeper_objects::ObjectStore;

use super::objects::{self, CacheObjects, FetchObject};
use crate::{CacheMount, Launch, LaunchError};

/// What the names of uploaded caches begin with.
const CACHE: &str = "cache-";

/// Whether an upload is an archive cache, which the supervisor can do without.
pub(super) fn is_cache(upload: &str) -> bool {
    upload.starts_with(CACHE)
}

/// The caches of an attempt on this side, by their names.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// Where they are saved.
    pub(super) saved: BTreeMap<String, PathBuf>,
    /// What of them is in an object store or may come there.
    pub(super) objects: BTreeMap<String, CacheObjects>,
}

impl Caches {
    /// Adds the caches of a launch to what its pod is told and sent.
    pub(super) fn plan(
        launch: &Launch,
        store: Option<&ObjectStore>,
        dir: &AttemptDir,
        spec: &mut AttemptSpec,
        uploads: &mut BTreeMap<String, PathBuf>,
    ) -> Result<Self, LaunchError> {
        let mut caches = Self::default();
        for cache in &launch.caches {
            let found = Candidate::best(cache, store);
            let upload = format!("{CACHE}{}", cache.name);
            let place = found.as_ref().map(|(place, _)| *place);
            spec.caches.push(to_spec(cache, place, &upload, dir));
            let mut objects = CacheObjects::default();
            match found.map(|(_, found)| found) {
                Some(Candidate::File(path)) => drop(uploads.insert(upload, path.to_owned())),
                Some(Candidate::Object(object)) => objects.fetch = Some(object),
                None => {}
            }
            let name = cache.name.to_string();
            if let Some(store) = store {
                objects.keep = objects::draw(store, launch, cache)?;
                caches.objects.insert(name.clone(), objects);
            }
            caches
                .saved
                .extend(cache.save_to.clone().map(|path| (name, path)));
        }
        Ok(caches)
    }
}

/// What a cache is restored from.
enum Candidate<'a> {
    File(&'a Path),
    Object(FetchObject),
}

impl<'a> Candidate<'a> {
    /// The best one that is there, with its place.
    fn best(cache: &'a CacheMount, store: Option<&ObjectStore>) -> Option<(&'a Path, Self)> {
        let candidates = std::iter::once(&cache.exact).chain(&cache.fallbacks);
        candidates.into_iter().find_map(|path| {
            let found = if path.is_file() {
                Self::File(path)
            } else {
                Self::Object(objects::find(store?, path)?)
            };
            Some((path.as_path(), found))
        })
    }
}

fn to_spec(cache: &CacheMount, found: Option<&Path>, upload: &str, dir: &AttemptDir) -> CacheSpec {
    let key = cache.exact.file_name().unwrap_or_default();
    let candidate = found.map(|place| CacheCandidate {
        path: dir.incoming().join(upload),
        exact: place == cache.exact,
    });
    CacheSpec {
        name: cache.name.to_string(),
        key: key.to_string_lossy().into_owned(),
        restore: candidate.into_iter().collect(),
        paths: cache.paths.clone(),
        save_to: (cache.save_to.as_ref()).map(|_| dir.path().join("caches").join(cache.name.as_str())),
    }
}
