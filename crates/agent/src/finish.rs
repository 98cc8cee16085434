//! What is kept after the steps: test reports, artifacts, caches.

use std::fs;
use std::io;
use std::path::Path;

use crate::archive::{ArchiveError, Kind, pack_files, select};
use crate::cache::{CacheState, Saver};
use crate::copy::Copier;
use crate::interrupt::Interrupt;
use crate::protocol::{
    ArtifactRecord, ArtifactSpec, AttemptDir, AttemptSpec, MAX_ALL_REPORTS, MAX_REPORT_BYTES, MAX_REPORTS,
};
use crate::transfer::Transfers;

/// How the steps ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Success,
    Failure,
}

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) artifacts: Vec<ArtifactRecord>,
    pub(crate) reports: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) problem: Option<Problem>,
}

/// Why an attempt whose steps succeeded does not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The user's: nothing matched, or a pattern is wrong.
    Theirs(String),
    /// Ours.
    Ours(String),
}

/// Whether [`keep`] has anything to do.
pub(crate) fn has_work(spec: &AttemptSpec, after: After) -> bool {
    let saves = after == After::Success && !spec.caches.is_empty();
    saves || !spec.reports.is_empty() || spec.artifacts.iter().any(|artifact| is_due(artifact, after))
}

fn is_due(artifact: &ArtifactSpec, after: After) -> bool {
    after == After::Success || artifact.always
}

/// Keeps what the outcome of the steps asks for.
pub(crate) fn keep(
    dir: &AttemptDir,
    spec: &AttemptSpec,
    holder: &str,
    after: After,
    caches: &mut [CacheState],
    transfers: &Transfers,
    interrupt: &Interrupt,
) -> Kept {
    let mut kept = Kept::default();
    if let Err(error) = keep_reports(dir, spec, interrupt, &mut kept) {
        kept.notes
            .push(format!("test reports not kept: {}", crate::error_text(&error)));
    }
    for artifact in spec.artifacts.iter().filter(|artifact| is_due(artifact, after)) {
        keep_artifact(dir, artifact, spec.limits.artifact, interrupt, &mut kept);
    }
    if after == After::Success && kept.problem.is_none() {
        let saver = Saver {
            dir,
            holder,
            most: spec.limits.cache,
            transfers,
            interrupt,
        };
        for (cache, state) in spec.caches.iter().zip(caches) {
            saver.save(cache, state, &mut kept.notes);
        }
    }
    kept
}

fn keep_artifact(
    dir: &AttemptDir,
    artifact: &ArtifactSpec,
    most: u64,
    interrupt: &Interrupt,
    kept: &mut Kept,
) {
    let name = &artifact.name;
    let folder = dir.artifacts();
    let packed = fs::create_dir_all(&folder)
        .map_err(ArchiveError::io(&folder))
        .and_then(|()| pack_files(&dir.workspace(), &artifact.paths, &dir.artifact(name), interrupt));
    match packed {
        Ok(packed) if packed.files == 0 => {
            drop(fs::remove_file(dir.artifact(name)));
            kept.trouble(Problem::Theirs(format!(
                "artifact `{name}`: no file matches `{}`",
                artifact.paths.join(" ")
            )));
        }
        Ok(packed) if packed.bytes > most => {
            drop(fs::remove_file(dir.artifact(name)));
            kept.trouble(Problem::Theirs(format!(
                "artifact `{name}` has {} bytes, more than the {most} that are kept of one",
                packed.bytes
            )));
        }
        Ok(packed) => {
            if !packed.left_out.is_empty() {
                kept.notes.push(format!(
                    "artifact `{name}`: {} links that point outside are left out",
                    packed.left_out.len()
                ));
            }
            let (sha256, bytes, files) = (packed.sha256, packed.bytes, packed.files);
            kept.artifacts.push(ArtifactRecord {
                name: name.clone(),
                sha256,
                bytes,
                files,
            });
        }
        Err(error @ (ArchiveError::Pattern { .. } | ArchiveError::TooManyEntries)) => {
            kept.trouble(Problem::Theirs(format!(
                "artifact `{name}`: {}",
                crate::error_text(&error)
            )));
        }
        Err(error) => {
            kept.trouble(Problem::Ours(format!(
                "artifact `{name}`: {}",
                crate::error_text(&error)
            )));
        }
    }
}

fn keep_reports(
    dir: &AttemptDir,
    spec: &AttemptSpec,
    interrupt: &Interrupt,
    kept: &mut Kept,
) -> Result<(), ArchiveError> {
    if spec.reports.is_empty() {
        return Ok(());
    }
    let (workspace, reports) = (dir.workspace(), dir.reports());
    let found = select(&workspace, &spec.reports, interrupt)?;
    let mut copier = Copier::default();
    let mut left = MAX_ALL_REPORTS;
    for path in found
        .iter()
        .filter(|(_, kind)| **kind == Kind::File)
        .map(|(path, _)| path)
        .take(MAX_REPORTS)
    {
        let size = fs::symlink_metadata(workspace.join(path)).map_err(ArchiveError::io(path))?;
        if size.len() > MAX_REPORT_BYTES {
            kept.notes.push(format!(
                "the test report `{}` is larger than {} MiB and is not kept",
                path.display(),
                MAX_REPORT_BYTES >> 20
            ));
            continue;
        }
        let Some(rest) = left.checked_sub(size.len()) else {
            kept.notes.push(format!(
                "the test reports are larger than {} MiB together; `{}` and what follows is not kept",
                MAX_ALL_REPORTS >> 20,
                path.display()
            ));
            break;
        };
        left = rest;
        let target = reports.join(path);
        copy_report(&mut copier, &workspace.join(path), &target).map_err(ArchiveError::io(path))?;
        kept.reports.push(path.to_string_lossy().into_owned());
    }
    if found.len() > MAX_REPORTS {
        kept.notes
            .push(format!("only the first {MAX_REPORTS} test reports are kept"));
    }
    Ok(())
}

fn copy_report(copier: &mut Copier, from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    copier.file(from, to)
}

impl Kept {
    fn trouble(&mut self, problem: Problem) {
        let (Problem::Theirs(text) | Problem::Ours(text)) = &problem;
        self.notes.push(text.clone());
        self.problem.get_or_insert(problem);
    }
}
