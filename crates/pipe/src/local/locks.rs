//! Locks between the local runs of a user: each slot of a lock is a file that a process has locked. The system gives it
//! back when the process ends, however that happens. Entry type: [`FileLocks`].

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use pipekeeper_controller::OuterLocks;
use pipekeeper_engine::{Claim, LockKey, Share};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, chain},
    folders,
};

/// What stands in the file of a slot about who has it.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    process: u32,
    pipeline: String,
    /// How many may hold the lock at once, as this one says.
    slots: u32,
}

/// The folder of the locks: one folder for each lock below it.
#[derive(Debug)]
pub(crate) struct FileLocks {
    folder: PathBuf,
}

impl FileLocks {
    /// The user's own.
    pub(crate) fn open() -> Result<Self, Failure> {
        let folder = folders::state()?.join("locks");
        folders::make(&folder)?;
        Ok(Self { folder })
    }

    fn folder_of(&self, key: &LockKey) -> PathBuf {
        let whose = match &key.project {
            Some(project) => format!("of-{project}"),
            None => "of".to_owned(),
        };
        self.folder.join(whose).join(format!("lock-{}", key.name))
    }
}

impl OuterLocks for FileLocks {
    fn take(&self, claim: &Claim) -> Result<Box<dyn Send + Sync>, String> {
        let mut taken = Vec::new();
        for (key, share) in &claim.locks {
            let slot = take(&self.folder_of(key), claim, *share);
            let file = slot.map_err(|error| format!("lock {key}: {}", chain(&error)))?;
            taken.push(file.map_err(|who| format!("lock {key}, held by {who}"))?);
        }
        Ok(Box::new(taken))
    }
}

/// A slot of a lock, or who has one.
fn take(folder: &Path, claim: &Claim, share: Share) -> io::Result<Result<File, String>> {
    fs::create_dir_all(folder)?;
    // One looks at a time, so that what is only looked at does not seem to be taken.
    let guard = open(&folder.join("guard"))?;
    if !try_lock(&guard)? {
        return Ok(Err("a run that takes one, too".to_owned()));
    }
    let (mut free, mut holders) = (None, Vec::new());
    let mut slots = share.slots;
    for number in 0_u32.. {
        let path = folder.join(number.to_string());
        if number >= share.slots && !path.exists() {
            break;
        }
        let mut file = open(&path)?;
        if try_lock(&file)? {
            free.get_or_insert(file);
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // One that was killed while it wrote its name has gone, too; whoever has the file now is about to write.
        if let Ok(holder) = serde_json::from_str::<Holder>(&text) {
            slots = slots.min(holder.slots);
            holders.push(format!(
                "`pipe run` of {} (process {})",
                holder.pipeline, holder.process
            ));
        } else {
            holders.push("another `pipe run`".to_owned());
        }
    }
    let is_free = u32::try_from(holders.len()).is_ok_and(|count| count < slots);
    match free.filter(|_| is_free) {
        Some(mut file) => {
            let holder = Holder {
                process: std::process::id(),
                pipeline: claim.pipeline.to_string(),
                slots: share.slots,
            };
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(serde_json::to_string(&holder)?.as_bytes())?;
            Ok(Ok(file))
        }
        None => Ok(Err(holders.join(" and "))),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipekeeper_engine::{ClaimId, ClaimState};
    use pipekeeper_model::{NodeId, RunId, Timestamp};

    use super::*;

    fn claim(locks: &[(&str, u32)]) -> Claim {
        let lock = |(name, slots): &(&str, u32)| {
            let key = LockKey {
                project: Some("mall".parse().unwrap()),
                name: name.parse().unwrap(),
            };
            let share = Share {
                slots: *slots,
                newest_first: false,
            };
            (key, share)
        };
        Claim {
            id: ClaimId {
                run: RunId(1),
                hold: NodeId(0),
            },
            project: "mall".parse().unwrap(),
            pipeline: "web".parse().unwrap(),
            action: "deploy".parse().unwrap(),
            locks: locks.iter().map(lock).collect::<BTreeMap<_, _>>(),
            state: ClaimState::Waiting,
            since: Timestamp(0),
        }
    }

    #[test]
    fn slots_are_files_and_all_locks_are_taken_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let locks = FileLocks {
            folder: folder.path().to_owned(),
        };
        let take = |wanted: &[(&str, u32)]| locks.take(&claim(wanted));
        let first = take(&[("db", 2)]).map_err(|_| ()).unwrap();
        let second = take(&[("db", 2), ("net", 1)]).map_err(|_| ()).unwrap();
        let refused = take(&[("db", 2)]).err().unwrap();
        let name = format!("`pipe run` of web (process {})", std::process::id());
        assert_eq!(refused, format!("lock `db`, held by {name} and {name}"));
        assert!(take(&[("a", 1), ("net", 1)]).is_err());
        assert!(take(&[("a", 1)]).is_ok(), "what was refused keeps nothing");
        drop(first);
        assert!(take(&[("db", 1)]).is_err(), "the fewest slots count");
        drop(take(&[("db", 2)]).map_err(|_| ()).unwrap());
        drop(second);
        let alone = take(&[("db", 1)]).map_err(|_| ()).unwrap();
        assert!(take(&[("db", 3)]).is_err(), "also those of whoever has it");
        drop(alone);
        assert!(take(&[("db", 3)]).is_ok());
    }
}
