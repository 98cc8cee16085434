//! Which files below a folder some globs mean. Links are never followed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::{ArchiveError, MAX_ENTRIES};
use crate::interrupt::Interrupt;

/// What a selected path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
}

/// Selected paths relative to the root, in order.
pub(crate) type Selection = BTreeMap<PathBuf, Kind>;

/// Finds what the globs mean. A folder means all below it; a glob that starts with `!` leaves out.
pub(crate) fn select(
    root: &Path,
    globs: &[String],
    interrupt: &Interrupt,
) -> Result<Selection, ArchiveError> {
    let mut search = Search {
        root,
        interrupt,
        found: Selection::new(),
    };
    let mut leave_out = GlobSetBuilder::new();
    for glob in globs {
        if let Some(glob) = glob.strip_prefix('!') {
            leave_out.add(compile(&tidy(glob)?)?.glob().clone());
        } else {
            search.glob(&tidy(glob)?)?;
        }
    }
    let leave_out = leave_out.build().map_err(|error| bad(&globs.join(" "), &error))?;
    let mut found = search.found;
    found.retain(|path, _| !is_left_out(&leave_out, path));
    Ok(found)
}

fn is_left_out(leave_out: &GlobSet, path: &Path) -> bool {
    !leave_out.is_empty() && path.ancestors().any(|part| leave_out.is_match(part))
}

/// The glob without `.` parts; one that leaves the root is an error.
fn tidy(glob: &str) -> Result<PathBuf, ArchiveError> {
    let mut path = PathBuf::new();
    for part in Path::new(glob).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(bad(glob, &"it must stay inside its folder"));
            }
        }
    }
    Ok(path)
}

fn compile(glob: &Path) -> Result<GlobMatcher, ArchiveError> {
    let text = glob.to_string_lossy();
    GlobBuilder::new(&text)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| bad(&text, &error))
}

fn bad(pattern: &str, reason: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Pattern {
        pattern: pattern.to_owned(),
        reason: reason.to_string(),
    }
}

struct Search<'a> {
    root: &'a Path,
    interrupt: &'a Interrupt,
    found: Selection,
}

impl Search<'_> {
    fn glob(&mut self, glob: &Path) -> Result<(), ArchiveError> {
        let is_literal =
            |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
        let base: PathBuf = glob.components().take_while(is_literal).collect();
        let Some(kind) = self.kind_of(&base) else {
            return Ok(());
        };
        if base == glob {
            self.walk(base, kind, None)
        } else {
            self.walk(base, kind, Some(&compile(glob)?))
        }
    }

    /// The kind of a path none of whose parents is a link; none if there is no such.
    fn kind_of(&self, path: &Path) -> Option<Kind> {
        let mut full = self.root.to_owned();
        let mut kind = Kind::Folder;
        for part in path.components() {
            if kind != Kind::Folder {
                return None;
            }
            full.push(part);
            kind = kind_from(fs::symlink_metadata(&full).ok()?.file_type())?;
        }
        Some(kind)
    }

    /// Adds all below `start`, or only what the glob matches with all below that.
    fn walk(&mut self, start: PathBuf, kind: Kind, glob: Option<&GlobMatcher>) -> Result<(), ArchiveError> {
        let mut open = vec![(start, kind, glob)];
        while let Some((path, kind, glob)) = open.pop() {
            if self.interrupt.is_set() {
                return Err(ArchiveError::Interrupted);
            }
            let glob = glob.filter(|glob| !glob.is_match(&path));
            if kind == Kind::Folder {
                let full = self.root.join(&path);
                for entry in fs::read_dir(&full).map_err(ArchiveError::io(&full))? {
                    let entry = entry.map_err(ArchiveError::io(&full))?;
                    let file_type = entry.file_type().map_err(ArchiveError::io(&full))?;
                    if let Some(kind) = kind_from(file_type) {
                        open.push((path.join(entry.file_name()), kind, glob));
                    }
                }
            }
            if glob.is_none() && !path.as_os_str().is_empty() {
                self.found.insert(path, kind);
            }
            if u64::try_from(self.found.len()).unwrap_or(u64::MAX) > MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries);
            }
        }
        Ok(())
    }
}

/// Sockets, pipes and devices are none.
fn kind_from(file_type: fs::FileType) -> Option<Kind> {
    if file_type.is_dir() {
        Some(Kind::Folder)
    } else if file_type.is_file() {
        Some(Kind::File)
    } else if file_type.is_symlink() {
        Some(Kind::Link)
    } else {
        None
    }
}
