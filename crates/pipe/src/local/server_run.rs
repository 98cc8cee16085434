//! What a local run takes over of a run of a server: outputs and artifacts of the actions that it does not run itself.
//!
//! Nothing starts before all of it is here and is what its digest says.

use std::{collections::BTreeMap, io, path::Path};

use pipekeeper_agent::archive::sha256_file;
use pipekeeper_controller::Layout;
use pipekeeper_engine::{AdoptedNode, Adoption};
use pipekeeper_model::{
    ArtifactResult, AttemptId, Digest, NodeId, Outcome, OutputValue, Plan, RunId,
    plan::{Body, Node as PlanNode, Section},
};

use crate::{
    client::{Client, Node, RunView},
    failure::{Exit, Failure, OrFail},
    folders, term,
};

/// A server's run that actions are taken over from.
#[derive(Clone, Debug)]
pub(crate) struct ServerRun {
    /// The server.
    pub(crate) client: Client,
    /// The run's number there.
    pub(crate) run: u64,
    /// The actions that run here all the same.
    pub(crate) actions: Vec<String>,
}

impl ServerRun {
    /// Fetches what the other actions of the plan made there.
    pub(crate) async fn adopt(&self, plan: &Plan, layout: &Layout) -> Result<Adoption, Failure> {
        let view = self.client.run(self.run).await?;
        let found = self.find(plan, &view)?;
        let mut nodes = BTreeMap::new();
        for (id, node) in found {
            self.fetch(node, layout).await?;
            nodes.insert(id, self.result(id, node)?);
        }
        Ok(Adoption {
            from: RunId(self.run),
            nodes,
        })
    }

    /// The run's nodes that stand for those of the plan; everything that does not fit at once.
    fn find<'a>(&self, plan: &Plan, view: &'a RunView) -> Result<Vec<(NodeId, &'a Node)>, Failure> {
        let run = self.run;
        if view.item.pipeline != plan.pipeline.as_str() {
            let (theirs, ours) = (&view.item.pipeline, &plan.pipeline);
            return Err(Failure::usage(format!(
                "run {run} is one of the pipeline `{theirs}`, and this is `{ours}`"
            ))
            .hint("`pipe runs` lists the runs"));
        }
        let (mut found, mut misfits) = (Vec::new(), Vec::new());
        let adopted = plan
            .ids()
            .zip(&plan.nodes)
            .filter(|(_, node)| self.takes_over(node));
        for (id, node) in adopted {
            match view.node(&node.name) {
                None => misfits.push(format!("run {run} has no `{}`", node.name)),
                Some(theirs) if theirs.outcome == Some(Outcome::Succeeded) => found.push((id, theirs)),
                Some(theirs) => {
                    misfits.push(format!(
                        "`{}` of run {run} is {}, not succeeded",
                        node.name, theirs.state
                    ));
                }
            }
            let gone = view.artifacts_gone.as_ref().zip(view.node(&node.name));
            if let Some((how, _)) = gone.filter(|(_, theirs)| theirs.has_files()) {
                misfits.push(format!(
                    "the artifacts of `{}` of run {run} were {how}",
                    node.name
                ));
            }
        }
        if misfits.is_empty() {
            return Ok(found);
        }
        let text = format!("failed to take run {run} over: {}", misfits.join("\nerror: "));
        Err(Failure::usage(text).hint("`--action NAME` runs an action here; it may be repeated"))
    }

    /// Whether a node is not run here. Gates and times are: a decision there says nothing about this tree.
    pub(crate) fn takes_over(&self, node: &PlanNode) -> bool {
        let is_work = matches!(node.body, Body::Work(_)) && node.section == Section::Main;
        is_work && !self.actions.iter().any(|action| action == node.action.as_str())
    }

    async fn fetch(&self, node: &Node, layout: &Layout) -> Result<(), Failure> {
        let run = self.run.to_string();
        for artifact in &node.artifacts {
            let path = ["runs", &run, "nodes", &node.name, "artifacts", &artifact.name];
            let what = format!("the artifact `{}` of run {run}/{}", artifact.name, node.name);
            self.download(
                &path,
                &layout.artifact(&artifact.digest),
                (&artifact.digest, &what),
            )
            .await?;
        }
        for (key, output) in &node.large_outputs {
            let path = ["runs", &run, "nodes", &node.name, "outputs", key];
            let what = format!("the output `{key}` of run {run}/{}", node.name);
            self.download(&path, &layout.blob(&output.digest), (&output.digest, &what))
                .await?;
        }
        Ok(())
    }

    async fn download(
        &self,
        path: &[&str],
        to: &Path,
        (digest, what): (&Digest, &str),
    ) -> Result<(), Failure> {
        if to.exists() {
            return Ok(());
        }
        term::note(format_args!("fetches {what}"));
        if let Some(folder) = to.parent() {
            folders::make(folder)?;
        }
        let part = to.with_added_extension("part");
        self.client.download(path, &part).await?;
        let hashed = part.clone();
        let found = tokio::task::spawn_blocking(move || sha256_file(&hashed)).await;
        let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
        if found.or_fail(what)? != digest.to_hex() {
            let text = format!("{what} is not what its digest says");
            return Err(Failure::new(Exit::Ours, text)
                .hint("try again; if it stays so, its file on the server is broken"));
        }
        std::fs::rename(&part, to).or_fail(format_args!("keep {what}"))
    }

    fn result(&self, id: NodeId, node: &Node) -> Result<AdoptedNode, Failure> {
        let texts = node.outputs.iter();
        let texts = texts.map(|(key, text)| (key.clone(), OutputValue::Text(text.clone())));
        let files = node.large_outputs.iter().map(|(key, output)| {
            let (digest, bytes) = (output.digest.clone(), output.bytes);
            (key.clone(), OutputValue::File { digest, bytes })
        });
        let artifacts = node.artifacts.iter().map(|artifact| {
            Ok(ArtifactResult {
                name: artifact.name.parse().or_fail("read the name of an artifact")?,
                digest: artifact.digest.clone(),
                bytes: artifact.bytes,
                files: artifact.files,
            })
        });
        Ok(AdoptedNode {
            attempt: AttemptId {
                run: RunId(self.run),
                node: id,
                number: 1,
            },
            outputs: texts.chain(files).collect(),
            artifacts: artifacts.collect::<Result<_, Failure>>()?,
        })
    }
}
