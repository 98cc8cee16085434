//! What attempts of a local run are given.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use ignore::WalkBuilder;
use pipekeeper_agent::archive;
use pipekeeper_backend::{KeepWorkspace, LaunchError, Orphan, SecretValue, SourceInput, Tier};
use pipekeeper_controller::{CacheTiers, Habits, Patterns, Supplies, digest_entries};
use pipekeeper_engine::RunRequest;
use pipekeeper_model::{Digest, Millis, plan::Work};
use tokio::sync::OnceCell;

use super::secrets::Secrets;

/// How long attempts work on when `pipe run` is killed.
const ORPHANS_STOP_AFTER: Millis = Millis::seconds(3);
/// The same where a network is between.
const FAR_ORPHANS_STOP_AFTER: Millis = Millis::seconds(60);

/// The working tree's copy, the user's secrets.
#[derive(Debug)]
pub(crate) struct LocalSupplies {
    /// The copy of the working tree.
    pub(crate) folder: PathBuf,
    /// The secrets.
    pub(crate) secrets: Secrets,
    /// Whether attempts run elsewhere, and may lose sight of us for a while.
    pub(crate) is_far: bool,
    /// The copy's archive, once something far away wants it.
    pub(crate) archive: OnceCell<PathBuf>,
    /// Whether workspaces are kept.
    pub(crate) keep_workspace: KeepWorkspace,
}

#[async_trait]
impl Supplies for LocalSupplies {
    async fn source(&self, _: &RunRequest) -> Result<SourceInput, LaunchError> {
        if !self.is_far {
            return Ok(SourceInput::Folder(self.folder.clone()));
        }
        // Every action is sent the same archive.
        let archive = self.archive.get_or_try_init(|| pack(&self.folder)).await?;
        Ok(SourceInput::Archive(archive.clone()))
    }

    async fn digest_files(&self, _: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError> {
        let globs = Patterns::new(globs);
        let folder = self.folder.clone();
        let walked = tokio::task::spawn_blocking(move || digest_folder(&folder, &globs));
        walked
            .await
            .map_err(|error| LaunchError::Transient {
                reason: error.to_string(),
            })?
            .map_err(|error| LaunchError::Terminal {
                reason: format!("failed to read the files that a key is made of: {error}"),
            })
    }

    async fn secrets(&self, _: &RunRequest, work: &Work) -> Result<Vec<SecretValue>, LaunchError> {
        self.secrets.values(&work.secrets)
    }

    fn cache_tiers(&self, _: &RunRequest) -> CacheTiers {
        CacheTiers {
            writes: Tier::Local,
            reads: vec![Tier::Local],
        }
    }

    fn habits(&self) -> Habits {
        Habits {
            keep_workspace: self.keep_workspace,
            orphan: Orphan::StopAfter(if self.is_far {
                FAR_ORPHANS_STOP_AFTER
            } else {
                ORPHANS_STOP_AFTER
            }),
        }
    }
}

/// Packs a folder into an archive beside it.
async fn pack(folder: &Path) -> Result<PathBuf, LaunchError> {
    let (folder, archive) = (folder.to_owned(), folder.with_extension("tar.zst"));
    let made = archive.clone();
    tokio::task::spawn_blocking(move || archive::pack(&folder, &["**".to_owned()], &made))
        .await
        .map_err(|error| LaunchError::Transient {
            reason: error.to_string(),
        })?
        .map_err(|error| LaunchError::Terminal {
            reason: format!("failed to pack the working tree: {error}"),
        })?;
    Ok(archive)
}

/// One digest over the files that match: paths, modes as git would write them, and contents.
fn digest_folder(folder: &Path, globs: &Patterns) -> Result<Digest, ignore::Error> {
    let mut files = BTreeMap::new();
    for entry in WalkBuilder::new(folder).standard_filters(false).build() {
        let entry = entry?;
        let Ok(path) = entry.path().strip_prefix(folder) else {
            continue;
        };
        let path = path.to_string_lossy();
        let Some(kind) = entry.file_type().filter(|_| globs.admit(&path)) else {
            continue;
        };
        let (mode, content) = if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            ("120000", Digest::of(target.as_os_str().as_bytes()))
        } else if kind.is_file() {
            let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
            let mode = if is_program { "100755" } else { "100644" };
            (mode, Digest::of(&fs::read(entry.path())?))
        } else {
            continue;
        };
        files.insert(path.into_owned(), format!("{mode} {content}"));
    }
    Ok(digest_entries(&files))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use pipekeeper_controller::Patterns;
    use pipekeeper_model::Digest;

    use super::digest_folder;

    #[test]
    fn a_key_follows_the_matching_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let globs = Patterns::new(&["Cargo.lock", "crates/*/Cargo.toml", "!crates/b/**"].map(str::to_owned));
        let digest = || digest_folder(dir.path(), &globs).unwrap();
        fs::create_dir_all(dir.path().join("crates/a/deep")).unwrap();
        fs::write(dir.path().join("Cargo.lock"), "1").unwrap();
        let first = digest();
        fs::write(dir.path().join("README"), "x").unwrap();
        fs::write(dir.path().join("crates/a/deep/Cargo.toml"), "x").unwrap();
        fs::create_dir_all(dir.path().join("crates/b")).unwrap();
        fs::write(dir.path().join("crates/b/Cargo.toml"), "x").unwrap();
        assert_eq!(digest(), first);
        fs::write(dir.path().join("crates/a/Cargo.toml"), "x").unwrap();
        let second = digest();
        assert_ne!(second, first);
        fs::write(dir.path().join("Cargo.lock"), "2").unwrap();
        assert_ne!(digest(), second);
    }

    #[test]
    fn a_key_follows_what_the_files_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        let globs = Patterns::new(&["tool".to_owned()]);
        let digest = || digest_folder(dir.path(), &globs).unwrap();
        let become_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&path, "same").unwrap();
        become_mode(0o644);
        let plain = digest();
        become_mode(0o600);
        assert_eq!(digest(), plain, "git knows of one bit alone");
        become_mode(0o755);
        let program = digest();
        assert_ne!(program, plain);
        let link_to = |target: &str| {
            fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
            digest()
        };
        let link = link_to("same");
        assert!(link != plain && link != program);
        assert_ne!(link_to("other"), link);
    }

    #[test]
    fn no_file_is_the_digest_of_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let globs = Patterns::new(&["src/**".to_owned()]);
        assert_eq!(digest_folder(dir.path(), &globs).unwrap(), Digest::of(b""));
    }
}
