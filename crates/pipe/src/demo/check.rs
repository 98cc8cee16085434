//! Compares what the demo's run left behind with what it must be: through the API, and in the files themselves.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use pipekeeper_agent::archive;
use pipekeeper_controller::Layout;
use pipekeeper_model::{AttemptId, Digest, NodeId, Outcome, RunId};

use super::repository::{POEM, Pushed};
use crate::{
    client::{Artifact, Client, DeliveryView, Node, RunView, view},
    failure::{Failure, OrFail},
};

/// One thing that was compared.
pub(super) struct Check {
    /// What must be.
    pub(super) what: String,
    /// What is instead.
    pub(super) problem: Option<String>,
}

const ACTIONS: [&str; 5] = ["test", "build", "report", "publish", "farewell"];

/// What each action's log must hold.
const LOGGED: [(&str, &str); 5] = [
    ("test", "all 5 tests passed, 0 failed"),
    ("build", "cc "),
    ("report", "5 tests passed"),
    ("publish", "published tally, which counted 43 words"),
    ("farewell", "the demo's run ends here"),
];

/// Everything.
pub(super) async fn all(
    client: &Client,
    layout: &Layout,
    run: u64,
    pushed: &Pushed,
) -> Result<Vec<Check>, Failure> {
    let mut checks = Checks::default();
    let seen = client.run(run).await?;
    checks.outcomes(&seen, pushed);
    checks.delivery(client, run).await?;
    checks.outputs(&seen);
    checks.logs(client, layout, &seen).await?;
    checks.artifacts(client, layout, &seen).await?;
    Ok(checks.0)
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: impl Into<String>, found: &T, wanted: &T) {
        self.0.push(Check {
            what: what.into(),
            problem: (found != wanted).then(|| format!("it is {found:?}, not {wanted:?}")),
        });
    }

    fn outcomes(&mut self, run: &RunView, pushed: &Pushed) {
        self.equal(
            "the run is of the pushed commit",
            &run.item.sha,
            &Some(pushed.sha.to_string()),
        );
        self.equal("the run succeeded", &run.item.outcome, &Some(Outcome::Succeeded));
        let all_ran = run
            .nodes
            .iter()
            .all(|node| node.outcome == Some(Outcome::Succeeded));
        self.equal("all of its actions succeeded", &all_ran, &true);
        let approved = run.node("go-public").map(|node| node.why.contains("approved by"));
        self.equal("the gate was approved by somebody", &approved, &Some(true));
    }

    async fn delivery(&mut self, client: &Client, run: u64) -> Result<(), Failure> {
        let answer = client.get(&["deliveries"], &[]).await?;
        let deliveries: Vec<DeliveryView> = view(answer.get("deliveries").cloned().unwrap_or_default())?;
        let ends: Vec<_> = deliveries
            .iter()
            .map(|one| (one.outcome.what.clone(), one.outcome.runs.clone()))
            .collect();
        self.equal(
            "one delivery made this one run",
            &ends,
            &vec![("ran".to_owned(), vec![run])],
        );
        Ok(())
    }

    fn outputs(&mut self, run: &RunView) {
        let output = |node: &str, key: &str| run.node(node)?.outputs.get(key).cloned();
        self.equal(
            "`test` counted its tests",
            &output("test", "passed"),
            &Some("5".to_owned()),
        );
        let words = POEM.split_whitespace().count().to_string();
        self.equal(
            "`report` counted the poem's words",
            &output("report", "words"),
            &Some(words),
        );
    }

    /// The log through the API is the file, byte for byte.
    async fn logs(&mut self, client: &Client, layout: &Layout, run: &RunView) -> Result<(), Failure> {
        for (name, wanted) in LOGGED {
            let part = client.log(run.item.id, name, None, 0).await?;
            let attempt = AttemptId {
                run: RunId(run.item.id),
                node: index_of(run, name)?,
                number: part.attempt,
            };
            let file = fs::read(layout.log(attempt)).or_fail("read a log file")?;
            let text = String::from_utf8_lossy(&part.bytes);
            let is_right = part.bytes == file && text.contains(wanted);
            self.equal(
                format!("the log of `{name}` is whole and says so"),
                &is_right,
                &true,
            );
        }
        Ok(())
    }

    /// Each archive through the API is the file under its digest.
    async fn artifacts(&mut self, client: &Client, layout: &Layout, run: &RunView) -> Result<(), Failure> {
        let mut release = None;
        for name in ACTIONS {
            let node = run
                .node(name)
                .ok_or_else(|| Failure::ours(format!("the run has no action `{name}`")))?;
            for artifact in &node.artifacts {
                let bytes = client.artifact(run.item.id, name, &artifact.name).await?;
                self.archive(layout, node, artifact, &bytes)?;
                if artifact.name == "release" {
                    release = Some(bytes);
                }
            }
        }
        match release {
            Some(bytes) => self.release(&bytes),
            None => {
                self.equal("there is a release", &false, &true);
                Ok(())
            }
        }
    }

    fn archive(
        &mut self,
        layout: &Layout,
        node: &Node,
        artifact: &Artifact,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let file = fs::read(layout.artifact(&artifact.digest)).or_fail("read an artifact's file")?;
        let what = format!(
            "the artifact `{}` of `{}` has its digest",
            artifact.name, node.name
        );
        let is_right =
            Digest::of(bytes) == artifact.digest && file == bytes && artifact.bytes == bytes.len() as u64;
        self.equal(what, &is_right, &true);
        Ok(())
    }

    /// What was published: its checksums are right, and the program works.
    fn release(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let folder = tempfile::tempdir().or_fail("make a folder")?;
        let packed = folder.path().join("release.tar.zst");
        fs::write(&packed, bytes).or_fail("write the release")?;
        let unpacked = folder.path().join("out");
        archive::unpack(&packed, &unpacked).or_fail("unpack the release")?;
        let release = unpacked.join("release");
        let listed = fs::read_to_string(release.join("SHA256SUMS")).or_fail("read the checksums")?;
        let found: BTreeMap<String, String> = ["report.txt", "tally"]
            .into_iter()
            .map(|name| Ok((name.to_owned(), hex_of(&release.join(name))?)))
            .collect::<Result<_, Failure>>()?;
        let wanted: BTreeMap<String, String> = listed
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(hex, name)| (name.to_owned(), hex.to_owned()))
            .collect();
        self.equal("the release has its checksums", &found, &wanted);
        let poem = folder.path().join("poem.txt");
        fs::write(&poem, POEM).or_fail("write the poem")?;
        let output = Command::new(release.join("tally"))
            .arg(&poem)
            .output()
            .or_fail("run the published program")?;
        let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let wanted = format!(
            "{} {} {}",
            POEM.lines().count(),
            POEM.split_whitespace().count(),
            POEM.len()
        );
        self.equal("the published program counts right", &counted, &wanted);
        Ok(())
    }
}

fn hex_of(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).or_fail(format_args!("read `{}`", path.display()))?;
    Ok(Digest::of(&bytes).to_hex())
}

fn index_of(run: &RunView, name: &str) -> Result<NodeId, Failure> {
    run.nodes
        .iter()
        .position(|node| node.name == name)
        .and_then(|index| u32::try_from(index).ok())
        .map(NodeId)
        .ok_or_else(|| Failure::ours(format!("the run has no action `{name}`")))
}
