//! The messages of the control stream.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{AttemptSpec, ExitRecord, StoreAccess};

/// From the controller to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToAgent {
    /// A supervisor that was started without a spec gets its attempt; it ends when its first controller leaves
    /// without having said this.
    Begin {
        /// The attempt's folder, complete; the supervisor's own was renamed to it.
        dir: PathBuf,
    },
    /// A supervisor in a pod gets its attempt. Repeated ones are ignored.
    Assign {
        /// The spec, with the pod's paths.
        spec: Box<AttemptSpec>,
    },
    /// A file that the attempt needs, small enough to come here; it may be repeated. A supervisor that cannot keep it
    /// hangs up.
    File {
        /// Its name in the folder of incoming files.
        name: String,
        /// Its bytes, in hex.
        content: String,
    },
    /// From now on this connection gets the log's bytes, from this offset on.
    ReadLog {
        /// The offset.
        from: u64,
    },
    /// A supervisor in a pod, whose record and files were fetched, may end.
    Leave,
    /// A supervisor in a pod, whose record and files were fetched, makes room for a further attempt, and says so with
    /// [`FromAgent::Ready`]; one that cannot leaves.
    Recycle,
    /// A supervisor in a pod, whose record and files were fetched and whose step failed, stays as that step left it, and
    /// says so with [`FromAgent::Held`]; one that cannot leaves.
    Hold,
    /// Answer with [`FromAgent::Processes`].
    Look,
    /// The ticket: user code may start. Repeated ones bring nothing but newer URLs.
    Go {
        /// The holder that the ticket was given to; another one obeys by leaving.
        holder: String,
        /// The secrets of the action.
        #[serde(default)]
        secrets: Vec<SecretValue>,
        /// Further values that the log must not show.
        #[serde(default)]
        mask: Vec<SecretText>,
        /// Where its caches are in an object store; what comes later is good for longer.
        #[serde(default)]
        store: StoreAccess,
    },
    /// The ticket is another's: leave without running anything.
    Exit,
    /// TERM to every process, then KILL after the grace.
    Stop {
        /// The grace; a second stop may shorten it.
        grace_ms: u64,
    },
    /// The cluster was told to end the pod, which SIGTERM says too, though not always soon: stop without a record.
    PodEnds,
    /// Answer with [`FromAgent::Pong`].
    Ping,
    /// A message of a newer controller; ignored.
    #[serde(other)]
    Unknown,
}

/// From the supervisor to the controller. The log's bytes come between, as frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first message of a supervisor in a pod that has no attempt, or none any more.
    Ready {
        /// The version it speaks.
        version: u32,
        /// Its pod's unique id.
        holder: String,
    },
    /// The first message on every connection.
    CheckedIn {
        /// The version it speaks.
        version: u32,
        /// The attempt's id.
        attempt: String,
        /// This supervisor's random id.
        holder: String,
        /// The nonce of the spec.
        nonce: String,
        /// Its process id, which is its session's id too.
        pid: u32,
    },
    /// The ticket was taken.
    Started {
        /// When, in ms since the epoch.
        at_ms: u64,
    },
    /// A step was started; on a new connection every step so far is repeated.
    StepStarted {
        /// Its index.
        index: usize,
        /// When, in ms since the epoch.
        at_ms: u64,
        /// The log offset of its first byte.
        log_start: u64,
    },
    /// The log has this many bytes now.
    LogGrew {
        /// Its size.
        bytes: u64,
    },
    /// Nothing was put out for a while.
    Silent {
        /// For how long.
        seconds: u64,
        /// The processes that are alive.
        processes: u32,
        /// The CPU time that they used so far.
        cpu_ms: u64,
    },
    /// What runs in the containers of the steps.
    Processes {
        /// One process a line, for people.
        text: String,
    },
    /// The record is on disk; the last message.
    Finished {
        /// What became of the attempt.
        record: Box<ExitRecord>,
    },
    /// The container of the step that failed is as that left it, and somebody may look into it.
    Held,
    /// The answer to [`ToAgent::Ping`].
    Pong,
    /// A message of a newer supervisor; ignored.
    #[serde(other)]
    Unknown,
}

/// One secret and where its value goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// The variable that gets it.
    pub env: Option<String>,
    /// The file that gets it: `~/…` below HOME, else below the workspace.
    pub file: Option<String>,
    /// The variable that says where that file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointer>,
    /// The value.
    pub value: SecretText,
}

/// A variable that says where a secret's file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Its name.
    pub variable: String,
    /// What it names.
    pub at: Pointed,
}

/// What a [`Pointer`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pointed {
    /// The file.
    File,
    /// The file, which is a program.
    Program,
    /// The folder that the file is in.
    Folder,
}

impl SecretValue {
    /// The variables that it makes in steps whose folders are these.
    pub(crate) fn variables(&self, home: &Path, workspace: &Path) -> Vec<(String, String)> {
        let own = self
            .env
            .clone()
            .map(|name| (name, self.value.reveal().to_owned()));
        let pointing = self.file.as_deref().zip(self.pointer.as_ref());
        let pointing = pointing.map(|(file, pointer)| {
            let file = match file.strip_prefix("~/") {
                Some(below) => home.join(below),
                None => workspace.join(file),
            };
            let place = match pointer.at {
                Pointed::File | Pointed::Program => file.as_path(),
                Pointed::Folder => file.parent().unwrap_or(&file),
            };
            (pointer.variable.clone(), place.to_string_lossy().into_owned())
        });
        own.into_iter().chain(pointing).collect()
    }

    /// The mode of its file.
    pub(crate) fn mode(&self) -> u32 {
        match self.pointer.as_ref().map(|pointer| pointer.at) {
            Some(Pointed::Program) => 0o700,
            Some(Pointed::File | Pointed::Folder) | None => 0o600,
        }
    }
}

/// Text that never shows in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::{CacheUrls, FetchUrl};

    #[test]
    fn newer_messages_and_fields_are_ignored() {
        let unknown: ToAgent = serde_json::from_str(r#"{"kind":"dance","tempo":3}"#).unwrap();
        assert_eq!(unknown, ToAgent::Unknown);
        let stop: ToAgent = serde_json::from_str(r#"{"kind":"stop","grace_ms":5,"why":"x"}"#).unwrap();
        assert_eq!(stop, ToAgent::Stop { grace_ms: 5 });
        let unknown: FromAgent = serde_json::from_str(r#"{"kind":"sings"}"#).unwrap();
        assert_eq!(unknown, FromAgent::Unknown);
    }

    #[test]
    fn debug_hides_secrets() {
        let value = SecretText::new("hunter2");
        let go = ToAgent::Go {
            holder: "h".into(),
            secrets: vec![SecretValue {
                env: None,
                file: None,
                pointer: None,
                value: value.clone(),
            }],
            mask: vec![value.clone()],
            store: StoreAccess {
                ca: None,
                caches: BTreeMap::from([(
                    "deps".into(),
                    CacheUrls {
                        fetch: Some(FetchUrl {
                            url: value.clone(),
                            bytes: 1,
                            digest: String::new(),
                        }),
                        keep: Some(value),
                    },
                )]),
            },
        };
        assert!(!format!("{go:?}").contains("hunter2"));
        assert_eq!(serde_json::to_string(&go).unwrap().matches("hunter2").count(), 4);
    }
}
