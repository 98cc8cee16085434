//! Tells when files of a tree change, those that git would ignore left out.

use std::{path::Path, time::Duration};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::failure::{Failure, OrFail};

/// Editors write in bursts: the end of one is waited for.
const QUIET: Duration = Duration::from_millis(200);

/// Changes of a tree, as they happen.
pub(crate) struct Changes {
    seen: mpsc::UnboundedReceiver<()>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Waits for a change, and then until nothing has changed for a moment.
    pub(crate) async fn next(&mut self) -> Result<(), Failure> {
        let ended = || Failure::ours("the file watcher ended");
        self.seen.recv().await.ok_or_else(ended)?;
        while let Ok(more) = tokio::time::timeout(QUIET, self.seen.recv()).await {
            more.ok_or_else(ended)?;
        }
        Ok(())
    }
}

/// Watches the tree at `root`.
pub(crate) fn watch(root: &Path) -> Result<Changes, Failure> {
    let (tell, seen) = mpsc::unbounded_channel();
    let ignored = ignored(root);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else {
            return;
        };
        let is_write = !matches!(event.kind, EventKind::Access(_));
        if is_write && event.paths.iter().any(|path| matters(&ignored, path)) {
            // Nobody listens any more when the command ends.
            let _ = tell.send(());
        }
    })
    .or_fail("watch files")?;
    watcher
        .watch(root, RecursiveMode::Recursive)
        .or_fail(format_args!("watch `{}`", root.display()))?;
    Ok(Changes {
        seen,
        _watcher: watcher,
    })
}

fn ignored(root: &Path) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    // A broken pattern is git's to complain about.
    let _ = builder.add(root.join(".gitignore"));
    let _ = builder.add_line(None, ".git/");
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

fn matters(ignored: &Gitignore, path: &Path) -> bool {
    path.starts_with(ignored.path())
        && !ignored
            .matched_path_or_any_parents(path, path.is_dir())
            .is_ignore()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ignored, matters};

    #[test]
    fn what_git_ignores_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".gitignore"), "/target\n*.log\n").unwrap();
        let ignored = ignored(dir.path());
        let matters = |path: &str| matters(&ignored, &dir.path().join(path));
        assert!(matters("src/main.rs"));
        assert!(matters(".pipe/web.yaml"));
        assert!(!matters("target/debug/x"));
        assert!(!matters(".git/index"));
        assert!(!matters("a.log"));
    }
}
