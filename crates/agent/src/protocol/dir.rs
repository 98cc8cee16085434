//! The files of an attempt's folder.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AttemptSpec, ExitRecord, PROTOCOL_VERSION};

/// The folder of one attempt, by the names that both sides use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptDir {
    path: PathBuf,
    /// What the containers of a pod share; none where there are no containers.
    tools: Option<PathBuf>,
}

/// Why a file of the folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error("cannot access `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("`{path}` is not readable")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It was written by another version.
    #[error("`{path}` has version `{found}`, this build speaks `{PROTOCOL_VERSION}`")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl AttemptDir {
    /// Names a folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            tools: None,
        }
    }

    /// The folder in a pod's supervisor: `ROOT/attempt`, whose `workspace`, `home`, `out` and `mounts` are volumes that
    /// the steps' containers have too, with `ROOT/tools` beside it, which they may only read.
    #[must_use]
    pub fn in_pod(root: &Path) -> Self {
        Self {
            path: root.join("attempt"),
            tools: Some(root.join("tools")),
        }
    }

    /// The folder that a pod's containers share and only the supervisor writes to.
    #[must_use]
    pub fn tools(&self) -> Option<&Path> {
        self.tools.as_deref()
    }

    /// `sock`, where controllers connect in a pod.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("sock")
    }

    /// `in`, the files that a controller sends into a pod.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.path.join("in")
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `spec.json`, written before the supervisor is spawned.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    /// `exit.json`, the exit record.
    #[must_use]
    pub fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }

    /// `ticket`, which exists as soon as user code may have started; it holds the holder.
    #[must_use]
    pub fn ticket(&self) -> PathBuf {
        self.path.join("ticket")
    }

    /// `lock`, which the supervisor locks (`flock`) for its whole life.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// `workspace`, where the steps run.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.path.join("workspace")
    }

    /// `home`, the steps' HOME.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// `secrets`, in a pod: a folder in memory, which the steps have too.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }

    /// `tmp`, the steps' TMPDIR.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// `steps`, the script files.
    #[must_use]
    pub fn steps(&self) -> PathBuf {
        self.tools.as_ref().unwrap_or(&self.path).join("steps")
    }

    /// `values`, the outputs of other actions that are files, which the steps may read.
    #[must_use]
    pub fn values(&self) -> PathBuf {
        self.tools.as_ref().unwrap_or(&self.path).join("values")
    }

    /// `outputs`, this attempt's own outputs that are files, by their keys.
    #[must_use]
    pub fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    /// `output`, the steps' `$PIPE_OUTPUT`.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.out().join("output")
    }

    /// `summary.md`, the steps' `$PIPE_SUMMARY`.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.out().join("summary.md")
    }

    /// The folder that steps write files for us to: a volume in a pod.
    fn out(&self) -> PathBuf {
        if self.tools.is_some() {
            self.path.join("out")
        } else {
            self.path.clone()
        }
    }

    /// `reports`, copies of the test reports.
    #[must_use]
    pub fn reports(&self) -> PathBuf {
        self.path.join("reports")
    }

    /// `artifacts`, the folder of the kept artifacts.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// The archive of one artifact.
    #[must_use]
    pub fn artifact(&self, name: &str) -> PathBuf {
        self.artifacts().join(format!("{name}.tar.zst"))
    }

    /// Writes the spec in one go.
    pub fn write_spec(&self, spec: &AttemptSpec) -> Result<(), FileError> {
        write_json(&self.spec(), spec)
    }

    /// Reads the spec; one of another version is an error.
    pub fn read_spec(&self) -> Result<AttemptSpec, FileError> {
        let path = self.spec();
        let spec: AttemptSpec = read_json(&path)?;
        check_version(path, spec.version)?;
        Ok(spec)
    }

    /// Writes the exit record in one go.
    pub fn write_record(&self, record: &ExitRecord) -> Result<(), FileError> {
        write_json(&self.exit(), record)
    }

    /// Reads the exit record, if there is one.
    pub fn read_record(&self) -> Result<Option<ExitRecord>, FileError> {
        let path = self.exit();
        let record: ExitRecord = match read_json(&path) {
            Ok(record) => record,
            Err(FileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        check_version(path, record.version)?;
        Ok(Some(record))
    }

    /// The holder that took the ticket, if one did; empty if it died right then.
    pub fn read_ticket(&self) -> Result<Option<String>, FileError> {
        let path = self.ticket();
        match std::fs::read_to_string(&path) {
            Ok(holder) => Ok(Some(holder)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Io { path, source }),
        }
    }
}

fn check_version(path: PathBuf, found: u32) -> Result<(), FileError> {
    if found == PROTOCOL_VERSION {
        Ok(())
    } else {
        Err(FileError::Version { path, found })
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = std::fs::read(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Readers see the whole new file or none of it. There is no fsync: the files must outlive a killed process, and a
/// power cut kills the attempt's processes too.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let text = serde_json::to_vec(value).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })?;
    let temporary = path.with_extension("json.tmp");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| FileError::Io {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_round_trips_and_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AttemptDir::new(folder.path());
        let mut spec = AttemptSpec::new("r1-n1-a1", "nonce", dir.path().join("log"));
        dir.write_spec(&spec).unwrap();
        assert_eq!(dir.read_spec().unwrap(), spec);
        spec.version = 99;
        dir.write_spec(&spec).unwrap();
        assert!(matches!(
            dir.read_spec(),
            Err(FileError::Version { found: 99, .. })
        ));
    }

    #[test]
    fn an_absent_record_is_none_and_a_damaged_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AttemptDir::new(folder.path());
        assert!(dir.read_record().unwrap().is_none());
        std::fs::write(dir.exit(), "{").unwrap();
        assert!(matches!(dir.read_record(), Err(FileError::Json { .. })));
    }
}
