//! One look: what newly ended left is noted, all of it is judged, and what nobody wants is swept.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use pipekeeper_engine::Run;
use pipekeeper_model::{Digest, Millis, Name, RunId, Timestamp};
use pipekeeper_store::{Estate, Part, Store, StoreError, StoredEstate};
use thiserror::Error;

use crate::{KeptBoard, Layout, runs::restore};

use super::{
    GRACE, Retention, TermsAway, Upkeep,
    judge::{Judge, Verdict},
    left::left,
    sweep,
};

/// How many runs are looked at together.
const PAGE: u32 = 200;
/// How many rows of runs, with their events, or of deliveries go in one transaction: others wait for it.
const ROWS: usize = 20;

/// How long deliveries stay at least: a copy of a webhook is told from a new one by them.
const COPIES: Millis = Millis::days(30);

/// Why a look ended early.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody knows the terms.
    #[error(transparent)]
    Terms(#[from] TermsAway),
    /// A folder.
    #[error("tidy the data folder: {0}")]
    Files(#[from] io::Error),
    /// The folder and the database do not belong together.
    #[error("tell what is old: the data folder has logs of {0}, which this database does not know")]
    Foreign(RunId),
}

/// What is still wanted.
#[derive(Default)]
pub(super) struct Wanted {
    /// The runs whose logs are.
    pub(super) logs: BTreeSet<RunId>,
    /// The files that are kept by their digest.
    pub(super) files: BTreeSet<Digest>,
    /// The bytes of those logs whose run ended.
    log_bytes: u64,
    /// How many runs could not be read, and may want anything.
    unreadable: usize,
}

/// Where a look looks.
pub(super) struct Site {
    pub(super) store: Arc<dyn Store>,
    pub(super) upkeep: Upkeep,
    pub(super) layout: Layout,
    pub(super) kept: KeptBoard,
}

/// Looks once.
pub(super) async fn look(site: &Site, now: Timestamp) -> Result<(), LookError> {
    check_folder(site).await?;
    // First: whoever ends from now on is among these, and whoever ended before is noted.
    let unfinished = site.upkeep.estates.unfinished().await?;
    let unreadable = note_ended(site).await?;
    let mut look = Look {
        site,
        now,
        judge: Judge::new(now, site.upkeep.terms.kept_runs().await?),
        wanted: Wanted {
            unreadable,
            ..Wanted::default()
        },
        terms: BTreeMap::new(),
    };
    look.unfinished(unfinished).await?;
    look.ended().await?;
    look.deliveries().await?;
    let Look { wanted, .. } = look;
    let log_bytes = wanted.log_bytes;
    let logs = sweep::logs(site, &wanted).await?;
    let swept = if wanted.unreadable == 0 {
        Some(sweep::artifacts(site.layout.artifacts(), wanted.files, now).await?)
    } else {
        tracing::warn!(
            "no artifact is removed: {} runs cannot be read, and may name any",
            wanted.unreadable
        );
        None
    };
    let removed = swept.unwrap_or_default();
    site.kept.change(|figures| {
        figures.log_bytes = log_bytes;
        // Without a sweep nobody counted.
        figures.artifact_bytes = swept.map_or(figures.artifact_bytes, |swept| swept.kept_bytes);
        figures.logs_removed += logs;
        figures.artifacts_removed += removed.removed;
        figures.artifact_bytes_removed += removed.removed_bytes;
    });
    if logs > 0 || removed.removed > 0 {
        tracing::info!(
            "removed the logs of {logs} runs and {} files of artifacts ({} bytes), as nobody is to keep them any longer",
            removed.removed,
            removed.removed_bytes,
        );
    }
    Ok(())
}

/// Refuses a folder that belongs to another database, or to a later state of this one: nobody here could say what it is for.
async fn check_folder(site: &Site) -> Result<(), LookError> {
    // A run is stored before it has logs, so the folder is read first.
    let newest_there = sweep::runs_with_logs(site).await?.into_iter().max();
    let newest = site.store.last_run().await?;
    match newest_there.filter(|run| run.0 > newest) {
        Some(run) => Err(LookError::Foreign(run)),
        None => Ok(()),
    }
}

/// Keeps in mind what runs left that ended since the last look; how many of them cannot be read.
async fn note_ended(site: &Site) -> Result<usize, LookError> {
    let (mut after, mut unreadable) = (None, 0);
    loop {
        let page = site.upkeep.estates.without_estate(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(unreadable);
        };
        after = Some(*last);
        let mut estates = Vec::new();
        for id in page {
            let Some(run) = load(site, id).await? else {
                unreadable += 1;
                continue;
            };
            let mut left = left(&run);
            left.log_bytes = sweep::log_bytes(&site.layout, id).await?;
            estates.push(Estate { run: id, left });
        }
        site.upkeep.estates.keep_estates(estates).await?;
    }
}

/// A run, unless it cannot be read.
async fn load(site: &Site, id: RunId) -> Result<Option<Run>, StoreError> {
    match site.store.load(id).await {
        Ok(Some(stored)) => Ok(restore(id, stored)
            .inspect_err(|reason| tracing::warn!(run.id = %id, "the run cannot be read: {reason}"))
            .ok()
            .map(|loaded| loaded.run)),
        Ok(None) | Err(StoreError::Corrupt { .. }) => Ok(None),
        Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => Err(error),
    }
}

struct Look<'a> {
    site: &'a Site,
    now: Timestamp,
    judge: Judge,
    wanted: Wanted,
    terms: BTreeMap<Name, Retention>,
}

impl Look<'_> {
    async fn unfinished(&mut self, unfinished: Vec<RunId>) -> Result<(), LookError> {
        for id in unfinished {
            self.wanted.logs.insert(id);
            let Some(run) = load(self.site, id).await? else {
                self.wanted.unreadable += 1;
                continue;
            };
            let left = left(&run);
            self.judge.lives(&left);
            let files = left.files.into_iter();
            self.wanted.files.extend(files.map(|file| file.digest));
        }
        Ok(())
    }

    async fn ended(&mut self) -> Result<(), LookError> {
        let mut before = None;
        loop {
            let page = self.site.upkeep.estates.estates(before, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            before = Some(last.run.id);
            let (mut losses, mut going) = (Vec::new(), Vec::new());
            for mut estate in page {
                let terms = self.terms_of(&estate.run.project).await?;
                match self.judge.judge(&estate, &terms) {
                    Verdict::Stays(lost) => {
                        let logs = lost.iter().find(|loss| loss.part == Part::Logs);
                        estate.logs_gone = estate.logs_gone.or(logs.map(|loss| loss.gone));
                        losses.extend(lost);
                        self.keep(estate);
                    }
                    Verdict::Goes => going.push(estate.run.id),
                }
            }
            if !losses.is_empty() {
                self.site.upkeep.estates.give_up(losses).await?;
            }
            for runs in going.chunks(ROWS) {
                let removed = self.site.upkeep.estates.remove_runs(runs.to_vec()).await?;
                self.site.kept.change(|figures| figures.runs_removed += removed);
            }
        }
    }

    /// Files of artifacts that are given up now stay until a later look.
    fn keep(&mut self, estate: StoredEstate) {
        if estate.logs_gone.is_none() {
            self.wanted.logs.insert(estate.run.id);
            self.wanted.log_bytes = self.wanted.log_bytes.saturating_add(estate.left.log_bytes);
        }
        let is_past = (estate.artifacts_gone).is_some_and(|gone| self.now.since(gone.at) >= GRACE);
        if !is_past {
            let files = estate.left.files.into_iter();
            self.wanted.files.extend(files.map(|file| file.digest));
        }
    }

    async fn deliveries(&mut self) -> Result<(), LookError> {
        let mut projects: BTreeSet<Name> = self.terms.keys().cloned().collect();
        projects.extend(self.site.upkeep.terms.projects().await?);
        for project in projects {
            let terms = self.terms_of(&project).await?;
            let kept = terms.runs.max(COPIES);
            let before = Timestamp(self.now.0.saturating_sub_unsigned(kept.0));
            let limit = u32::try_from(ROWS).unwrap_or(u32::MAX);
            let estates = &self.site.upkeep.estates;
            while estates.remove_deliveries(&project, before, limit).await? >= u64::from(limit) {}
        }
        Ok(())
    }

    async fn terms_of(&mut self, project: &Name) -> Result<Retention, TermsAway> {
        if let Some(terms) = self.terms.get(project) {
            return Ok(*terms);
        }
        let terms = self.site.upkeep.terms.of(project).await?;
        self.terms.insert(project.clone(), terms);
        Ok(terms)
    }
}
