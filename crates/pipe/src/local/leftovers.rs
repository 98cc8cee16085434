//! What runs in containers leave behind whose process was killed, found again by what each wrote down when it began.
//!
//! ```text
//! STATE/containers/INSTANCE.json   where this process's containers are; locked as long as it wants them
//! ```
//! It stays until a later run in the same place has seen that nothing is left of it. Entry functions: [`mark`], [`sweep`].

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::pods::Containers;
use crate::{
    failure::{Failure, OrFail},
    folders,
    server::tokens,
    term,
};

/// Says that the containers of an instance are wanted, until it is dropped or its process is gone.
#[derive(Debug)]
pub(crate) struct Mark {
    _lock: File,
}

/// Where the marks of this user are.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    Ok(folders::state()?.join("containers"))
}

/// What tells the containers of this process from those of every other.
pub(super) fn instance() -> Result<String, Failure> {
    Ok(tokens::random()?.chars().take(8).collect())
}

/// Marks the containers of an instance as wanted, before the first of them is made.
pub(super) fn mark(folder: &Path, instance: &str, containers: &Containers) -> Result<Mark, Failure> {
    folders::make(folder)?;
    let path = folder.join(format!("{instance}.json"));
    let doing = format!("write `{}`", path.display());
    let text = serde_json::to_string(containers).or_fail(&doing)?;
    let mut file = File::create_new(&path).or_usage(&doing)?;
    // Who looks for leftovers may have it for a moment, and leaves alone what says nothing yet.
    file.lock().or_usage(&doing)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .or_usage(&doing)?;
    Ok(Mark { _lock: file })
}

/// Removes what is left in this place of processes that are gone. What does not work is tried by the next run.
pub(super) async fn sweep(folder: PathBuf, containers: Containers) {
    let left = match abandoned(&folder, &containers) {
        Ok(left) => left,
        Err(error) => return term::warn(format_args!("failed to look for what earlier runs left: {error}")),
    };
    for one in left {
        if let Err(failure) = one.remove().await {
            term::warn(format_args!(
                "what a killed run left here stays until a later one removes it: {failure}"
            ));
        }
    }
}

/// An instance whose process is gone; locked, so that one process removes it.
struct Abandoned {
    path: PathBuf,
    instance: String,
    containers: Containers,
    _lock: File,
}

impl Abandoned {
    async fn remove(&self) -> Result<(), Failure> {
        let host = self.containers.host(&self.instance).await?;
        for attempt in host.list().await.or_fail("list containers")? {
            host.remove(attempt).await.or_fail("remove containers")?;
        }
        fs::remove_file(&self.path).or_fail("forget them")
    }
}

/// The instances in the place of these containers whose processes are gone.
fn abandoned(folder: &Path, like: &Containers) -> io::Result<Vec<Abandoned>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(instance) = name
            .and_then(|name| name.strip_suffix(".json"))
            .map(str::to_owned)
        else {
            continue;
        };
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => continue,
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // What another version wrote is that one's business.
        let Ok(containers) = serde_json::from_str::<Containers>(&text) else {
            continue;
        };
        if containers.name() == like.name() {
            found.push(Abandoned {
                path,
                instance,
                containers,
                _lock: file,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use pipekeeper_backend::docker::AgentImage;

    use super::*;

    fn engine() -> Containers {
        Containers::Engine {
            socket: "/nowhere".to_owned(),
            agent: AgentImage::Named("agent:1".to_owned()),
        }
    }

    fn cluster(context: &str) -> Containers {
        let flags = serde_json::json!({
            "context": context, "namespace": null, "agent_image": null, "agent_program": null, "pull_secrets": [],
        });
        Containers::Cluster {
            context: context.to_owned(),
            flags: serde_json::from_value(flags).unwrap(),
        }
    }

    #[test]
    fn only_what_nobody_wants_any_more_is_left_over() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("containers");
        let left = |like: &Containers| -> Vec<String> {
            let found = abandoned(&folder, like).unwrap();
            found.into_iter().map(|one| one.instance).collect()
        };
        let live = mark(&folder, "a1", &cluster("dev")).unwrap();
        drop(mark(&folder, "b2", &cluster("dev")).unwrap());
        drop(mark(&folder, "c3", &cluster("other")).unwrap());
        drop(mark(&folder, "d4", &engine()).unwrap());
        fs::write(folder.join("e5.json"), "").unwrap();
        assert_eq!(left(&cluster("dev")), ["b2"]);
        assert_eq!(left(&engine()), ["d4"]);
        let held = abandoned(&folder, &engine()).unwrap();
        assert_eq!(left(&engine()), [""; 0], "another process removes it");
        drop(held);
        drop(live);
        let mut both = left(&cluster("dev"));
        both.sort();
        assert_eq!(both, ["a1", "b2"]);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_stays_known() {
        let temp = tempfile::tempdir().unwrap();
        drop(mark(temp.path(), "a1", &engine()).unwrap());
        sweep(temp.path().to_owned(), engine()).await;
        assert!(temp.path().join("a1.json").exists());
    }
}
