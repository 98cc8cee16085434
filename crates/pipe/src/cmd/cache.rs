//! `pipe cache`: the archive caches that are kept, of local runs on this machine or of a server.

use clap::{ArgGroup, Args, Subcommand};
use pipekeeper_controller::caches::{CacheEntry, CacheQuota, CacheWish, Removed};
use pipekeeper_model::{Bytes, Millis, Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock, config,
    failure::{Exit, Failure, OrFail},
    local::caches,
    report::words,
    runtime,
    term::{self, Paint, Tone, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    whose: Whose,
}

/// Whose caches: this machine's unless a server is named.
#[derive(Debug, Args)]
struct Whose {
    /// The server whose caches are meant; without it those of local runs
    #[arg(long, global = true, env = "PIPE_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The token; by default the one in the data folder on this machine
    #[arg(
        long,
        global = true,
        env = "PIPE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// The caches of local runs, whatever PIPE_SERVER says
    #[arg(long, global = true)]
    local: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List caches: name, key, project, tier, size, when saved and when used last
    List {
        /// Only this project's
        #[arg(long)]
        project: Option<Name>,
    },
    /// Remove caches; one that is being read stays
    Rm(Rm),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
struct Rm {
    /// The caches of this name, or those of a key that begins so
    #[arg(value_name = "NAME[/KEY]", group = "which")]
    name: Option<String>,
    /// Every cache
    #[arg(long, group = "which", conflicts_with_all = ["name", "older_than"])]
    all: bool,
    /// Those not used for so long, such as 7d
    #[arg(long, group = "which", value_name = "TIME")]
    older_than: Option<Millis>,
    /// Only this project's
    #[arg(long)]
    project: Option<Name>,
}

/// A cache in a list.
#[derive(Deserialize, Serialize)]
struct Item {
    name: Name,
    key: String,
    project: Name,
    tier: String,
    bytes: Bytes,
    created_at: Timestamp,
    used_at: Timestamp,
    /// The working tree, of local runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<String>,
}

#[derive(Deserialize)]
struct Quota {
    project: Bytes,
    total: Bytes,
}

impl Cache {
    /// Does what was asked.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let answer = match self.whose.client()? {
            Some(client) => self.what.ask(&client)?,
            None => self.what.look()?,
        };
        let json = (output == Output::Json)
            .then(|| serde_json::to_string_pretty(&answer))
            .transpose();
        match (json.or_fail("write the answer")?, self.what) {
            (Some(text), _) => term::say(text),
            (None, What::List { .. }) => show(answer)?,
            (None, What::Rm(rm)) => return told(answer, rm.name.is_some()),
        }
        Ok(Exit::Done)
    }
}

impl Whose {
    fn client(&self) -> Result<Option<Client>, Failure> {
        let server = self.server.clone().filter(|_| !self.local);
        server
            .map(|server| {
                Client::new(&Remote {
                    server: Some(server),
                    token: self.token.clone(),
                })
            })
            .transpose()
    }
}

impl What {
    /// Asks a server.
    fn ask(&self, client: &Client) -> Result<Value, Failure> {
        runtime::block_on(async {
            match self {
                Self::List { project } => {
                    let project = project.iter().map(|name| ("project", name.to_string()));
                    client.get(&["caches"], &project.collect::<Vec<_>>()).await
                }
                Self::Rm(rm) => {
                    let (name, key) = rm.name_and_key()?;
                    let body = json!({
                        "project": rm.project, "name": name, "key": key,
                        "older_than": rm.older_than, "all": rm.all,
                    });
                    client.post(&["caches", "remove"], &body).await
                }
            }
        })
    }

    /// Looks at this machine's own.
    fn look(&self) -> Result<Value, Failure> {
        let trees = caches::trees()?;
        match self {
            Self::List { project } => {
                let mut items = Vec::new();
                for tree in trees {
                    let found = tree.list()?.into_iter();
                    let wanted =
                        found.filter(|entry| project.as_ref().is_none_or(|name| *name == entry.project));
                    items.extend(wanted.map(|entry| Item::of(entry, &tree.tree)));
                }
                let CacheQuota { project, total } = config::local_cache_quota()?;
                Ok(json!({ "caches": items, "quota": { "project": project, "total": total } }))
            }
            Self::Rm(rm) => {
                let (name, key) = rm.name_and_key()?;
                let wish = CacheWish {
                    project: rm.project.clone(),
                    name,
                    key,
                    unused_since: rm
                        .older_than
                        .map(|age| Timestamp(clock::now().0.saturating_sub_unsigned(age.0))),
                };
                let (mut gone, mut stay) = (Vec::new(), Vec::new());
                for tree in trees {
                    let removed: Removed = tree.remove(&wish)?;
                    gone.extend(removed.gone.into_iter().map(|entry| Item::of(entry, &tree.tree)));
                    stay.extend(
                        removed
                            .in_use
                            .into_iter()
                            .map(|entry| Item::of(entry, &tree.tree)),
                    );
                }
                Ok(json!({ "removed": gone, "in_use": stay }))
            }
        }
    }
}

impl Rm {
    fn name_and_key(&self) -> Result<(Option<Name>, Option<String>), Failure> {
        let Some(text) = &self.name else {
            return Ok((None, None));
        };
        let (name, key) = match text.split_once('/') {
            Some((name, key)) => (name, Some(key.to_owned())),
            None => (text.as_str(), None),
        };
        let name = name.parse().map_err(|error| {
            Failure::usage(format!("failed to {error}")).hint("`pipe cache list` shows names and keys")
        })?;
        Ok((Some(name), key))
    }
}

impl Item {
    fn of(entry: CacheEntry, tree: &str) -> Self {
        Self {
            name: entry.name,
            key: entry.key,
            project: entry.project,
            tier: entry.tier,
            bytes: entry.bytes,
            created_at: entry.created_at,
            used_at: entry.used_at,
            tree: Some(tree.to_owned()).filter(|tree| !tree.is_empty()),
        }
    }

    /// Its name with the start of its key, for people.
    fn title(&self) -> String {
        const SHOWN: usize = 12;
        let key: String = self.key.chars().take(SHOWN).collect();
        format!("{}/{}", self.name, clean(&key))
    }
}

fn part<T: serde::de::DeserializeOwned>(answer: &Value, key: &str) -> Result<T, Failure> {
    view(answer.get(key).cloned().unwrap_or_default())
}

fn show(answer: Value) -> Result<(), Failure> {
    let items: Vec<Item> = part(&answer, "caches")?;
    let quota: Quota = part(&answer, "quota")?;
    if items.is_empty() {
        term::note("no caches here; `--server URL` asks a server for its own");
        return Ok(());
    }
    let ago = |at: Timestamp| format!("{} ago", words::length(clock::now().since(at)));
    let head = [
        "NAME/KEY",
        "PROJECT",
        "TIER",
        "SIZE",
        "SAVED",
        "LAST USED",
        "TREE",
    ]
    .map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(items.iter().map(|item| {
            [
                item.title(),
                item.project.to_string(),
                clean(&item.tier),
                item.bytes.to_string(),
                ago(item.created_at),
                ago(item.used_at),
                item.tree.as_deref().map(clean).unwrap_or_default(),
            ]
        }))
        .collect();
    let has_trees = items.iter().any(|item| item.tree.is_some());
    let columns = if has_trees { 7 } else { 6 };
    let mut widths = [0; 7];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let paint = Paint::for_stdout();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).take(columns);
        let line: Vec<String> = cells.map(|(text, width)| format!("{text:<width$}")).collect();
        let line = line.join("  ");
        let tone = if number == 0 {
            paint.tone(Tone::Faint, line.trim_end())
        } else {
            line.trim_end().to_owned()
        };
        term::say(tone);
    }
    term::note(format_args!(
        "{}, {}; {} a project and {} in all may be kept",
        count(items.len()),
        total(&items),
        quota.project,
        quota.total
    ));
    Ok(())
}

/// Says what went and what stays. Somebody who named a cache wants to know if there is none.
fn told(answer: Value, is_named: bool) -> Result<Exit, Failure> {
    let gone: Vec<Item> = part(&answer, "removed")?;
    let in_use: Vec<Item> = part(&answer, "in_use")?;
    for item in &gone {
        let (title, project, tier) = (item.title(), &item.project, clean(&item.tier));
        term::say(format_args!(
            "removed {title} of {project} ({tier}, {})",
            item.bytes
        ));
    }
    for item in &in_use {
        term::warn(format_args!(
            "{} of {} is being read and stays; try again in a moment",
            item.title(),
            item.project
        ));
    }
    if gone.is_empty() && in_use.is_empty() {
        if is_named {
            return Err(
                Failure::not_found("no such cache is kept").hint("`pipe cache list` lists what is kept")
            );
        }
        term::note("no cache fits: nothing was removed");
    } else {
        term::note(format_args!(
            "removed {}, {} freed",
            count(gone.len()),
            total(&gone)
        ));
    }
    Ok(if in_use.is_empty() {
        Exit::Done
    } else {
        Exit::NotFound
    })
}

fn count(number: usize) -> String {
    match number {
        1 => "1 cache".to_owned(),
        _ => format!("{number} caches"),
    }
}

fn total(items: &[Item]) -> Bytes {
    Bytes(items.iter().map(|item| item.bytes.0).sum())
}
