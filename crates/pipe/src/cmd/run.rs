//! `pipe run`: a pipeline here and now, on the working tree as it is, by the engine that the server has.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use pipekeeper_engine::Earlier;
use pipekeeper_model::{
    EventKind, Millis, Name, Outcome, Plan,
    plan::{Feature, FeatureUse},
};
use pipekeeper_source::working_tree::{self, WorkingTree};
use pipekeeper_spec::{Pipeline, PlanError, PlanRequest, document::Environment};

use super::working_folder;
use crate::{
    cli::{Output, Remote},
    client::{Client, run_number},
    failure::{Exit, Failure, OrFail},
    find::{self, PipelineFile},
    follow::Ending,
    kinds,
    local::{
        Place,
        event::{self, Occasion},
        pods::{self, Containers, PodFlags},
        secrets::{self, Secrets},
        server_run::ServerRun,
        session::{self, Job},
        watch,
    },
    remote,
    report::View,
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A file, or a pipeline's name; without it the only one there is
    #[arg(value_name = "FILE|PIPELINE")]
    pipeline: Option<String>,
    /// Run this action and what it needs; may be repeated
    #[arg(long = "action", value_name = "NAME")]
    actions: Vec<String>,
    /// A parameter; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(Name, String)>,
    /// What started the run, as the pipeline sees it
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(EventKind::ALL.map(EventKind::as_str)))]
    event: Option<String>,
    /// The branch, as the pipeline sees it; by default the one checked out
    #[arg(long, conflicts_with = "tag")]
    branch: Option<String>,
    /// The tag, as the pipeline sees it
    #[arg(long)]
    tag: Option<String>,
    /// A secret; NAME alone takes it from the environment; may be repeated
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// A file of secrets, NAME=VALUE on each line
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// What happens at approvals and manual starts
    #[arg(long, value_enum, default_value_t)]
    approve: Approve,
    /// Where actions run
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Send the working tree to this cluster of a server, and follow the run there
    #[arg(long, value_name = "CLUSTER", conflicts_with_all = [
        "context", "backend", "watch", "keep", "secrets", "secrets_file", "event", "branch", "tag",
    ])]
    on: Option<Name>,
    /// The server's project with `--on`; by default the one called like the repository
    #[arg(long, requires = "on")]
    project: Option<Name>,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    pods: PodFlags,
    /// Take outputs and artifacts of what the `--action`s need from this run of a server, and run those alone
    #[arg(long, value_name = "RUN", value_parser = run_number, requires = "actions", conflicts_with_all = ["on", "watch"])]
    from_run: Option<u64>,
    /// A folder or file of documents, whose Environments the run uses; may be repeated
    #[arg(long, value_name = "DIR", conflicts_with = "on")]
    kinds: Vec<PathBuf>,
    /// Run every action, also where `reuse:` would adopt an earlier success
    #[arg(long)]
    no_reuse: bool,
    /// Run again whenever a file changes
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    /// Print what would run, and stop
    #[arg(long)]
    dry_run: bool,
    /// Keep the workspaces, or what makes their containers again, for `pipe debug`
    #[arg(long)]
    keep: bool,
    /// Plain lines even on a terminal
    #[arg(long)]
    lines: bool,
    /// Cancel the run after this long, such as 20m
    #[arg(long, value_name = "TIME")]
    timeout: Option<Millis>,
}

/// What happens at approvals and manual starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Approve {
    /// Ask on the terminal; without one, reject.
    #[default]
    Ask,
    /// Approve everything.
    Auto,
    /// Reject everything.
    Deny,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum BackendChoice {
    /// Whatever the pipeline wants.
    #[default]
    Auto,
    /// Processes of this machine, whatever `image:` says.
    Local,
    /// Containers of this machine's Docker or Podman.
    Docker,
}

impl Run {
    /// Runs the pipeline.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let from = working_folder()?;
        let secrets = secrets::collect(&self.secrets, self.secrets_file.as_deref())?;
        if self.watch {
            return runtime::block_on(self.again_and_again(output, &from, &secrets));
        }
        let file = find::pick(self.pipeline.as_deref(), &from)?;
        if let Some(cluster) = &self.on
            && !self.dry_run
        {
            let job = self.prepare_sending(&file, cluster.clone(), output)?;
            let client = Client::new(&self.remote)?;
            let place = Place::make(&job.root)?;
            return Ok(exit_of(runtime::block_on(remote::run(client, &place, job))?));
        }
        let (pipeline, job) = self.prepare(&file, output, &secrets)?;
        if self.dry_run {
            let environments = kinds::read(&self.kinds)?;
            return dry_run(&pipeline, (&job.plan, &environments), output);
        }
        let place = Place::make(&job.root)?;
        let ending = runtime::block_on(session::run(&place, job, None))?;
        Ok(exit_of(ending))
    }

    /// Everything that can be wrong before anything runs.
    fn prepare(
        &self,
        file: &PipelineFile,
        output: Output,
        secrets: &Secrets,
    ) -> Result<(Pipeline, Job), Failure> {
        let pipeline = file.check()?;
        let event = event::local(
            &file.root,
            &Occasion {
                kind: self.event.as_deref(),
                branch: self.branch.as_deref(),
                tag: self.tag.as_deref(),
            },
        )?;
        let params: BTreeMap<Name, String> = self.params.iter().cloned().collect();
        let selected = (!self.actions.is_empty()).then_some(self.actions.as_slice());
        let environments = kinds::here(&self.kinds, &event::project(&event)?)?;
        let request = PlanRequest {
            event: &event,
            params: &params,
            selected,
            environments: &environments,
        };
        let mut plan = pipeline
            .plan(&request)
            .map_err(|errors| self.unplanned(&errors))?;
        let server_run = self.server_run()?;
        let own = own_part(&pipeline, &plan, server_run.as_ref());
        plan.features.clone_from(&own.features);
        let containers = self.containers(&plan)?;
        self.settle_features(&mut plan, containers.is_some())?;
        secrets::require(&own, secrets)?;
        let job = Job {
            plan,
            event,
            root: file.root.clone(),
            secrets: secrets.clone(),
            approve: self.approve,
            view: self.view(output),
            keep: self.keep,
            limit: self.timeout,
            earlier: self.earlier(),
            server_run,
            containers,
        };
        Ok((pipeline, job))
    }

    fn server_run(&self) -> Result<Option<ServerRun>, Failure> {
        let Some(run) = self.from_run else {
            return Ok(None);
        };
        Ok(Some(ServerRun {
            client: Client::new(&self.remote)?,
            run,
            actions: self.actions.clone(),
        }))
    }

    fn unplanned(&self, errors: &[PlanError]) -> Failure {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let failure = Failure::usage(format!("failed to {}", lines.join("\nerror: failed to ")));
        let is_unknown = |error: &PlanError| matches!(error, PlanError::UnknownEnvironment { .. });
        if self.kinds.is_empty() && errors.iter().any(is_unknown) {
            return failure.hint("`--kinds DIR` names the folder of documents that has its Environment");
        }
        failure
    }

    /// Everything that can be wrong before a tree is sent. What the server cannot do it says itself.
    fn prepare_sending(
        &self,
        file: &PipelineFile,
        cluster: Name,
        output: Output,
    ) -> Result<remote::Job, Failure> {
        let pipeline = file.check()?;
        if !file.is_found_by_servers() {
            return Err(Failure::usage(format!("a server does not find `{}`", file.path))
                .hint("it looks for `.pipe/*.yaml` in the tree that is sent"));
        }
        let tree = working_tree::describe(&file.root);
        Ok(remote::Job {
            root: file.root.clone(),
            subject: tree.as_ref().map_or_else(|| "a working tree".to_owned(), subject),
            repository: tree.map(|tree| tree.repository).unwrap_or_default(),
            project: self.project.clone(),
            pipeline: pipeline.name().clone(),
            cluster,
            params: self.params.clone(),
            actions: self.actions.clone(),
            earlier: self.earlier(),
            approve: self.approve,
            view: self.view(output),
            limit: self.timeout,
        })
    }

    fn earlier(&self) -> Earlier {
        if self.no_reuse {
            Earlier::Ignore
        } else {
            Earlier::Adopt
        }
    }

    fn view(&self, output: Output) -> View {
        match output {
            Output::Json => View::Json,
            Output::Text if self.lines || !term::can_draw() => View::Lines,
            Output::Text => View::Tree,
        }
    }

    /// Refuses by name and place what cannot be done here; images are set aside if the user says so.
    fn settle_features(&self, plan: &mut Plan, in_containers: bool) -> Result<(), Failure> {
        plan.features.retain(|used| !used.feature.is_trigger());
        if self.backend == BackendChoice::Local {
            let images: BTreeSet<String> = plan
                .features
                .iter()
                .filter(|used| used.feature == Feature::Image)
                .filter_map(|used| used.detail.clone())
                .collect();
            for image in images {
                term::note(format_args!(
                    "note: `{image}` is not used: its actions run as processes of this machine"
                ));
            }
            plan.features.retain(|used| used.feature != Feature::Image);
        }
        let missing: Vec<&FeatureUse> = plan
            .features
            .iter()
            .filter(|used| !can(used.feature, in_containers))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = missing
            .iter()
            .map(|used| feature_line(&plan.file, used))
            .collect();
        let only_images = missing.iter().all(|used| used.feature == Feature::Image);
        let hint = if only_images {
            "`--context` runs the actions as pods of a cluster, `--backend docker` in containers, `--backend local` as processes of this machine"
        } else {
            "leave these out with `--action`, or run the pipeline on a server that can do them"
        };
        Err(Failure::usage(format!(
            "the pipeline uses what `pipe run` cannot do here\n{}",
            lines.join("\n")
        ))
        .hint(hint))
    }

    /// The containers that it runs in: those that were asked for, or, where the pipeline names images and nothing was
    /// said, this machine's engine if there is one.
    fn containers(&self, plan: &Plan) -> Result<Option<Containers>, Failure> {
        let wants_images = plan.features.iter().any(|used| used.feature == Feature::Image);
        match (self.pods.cluster(), self.backend) {
            (Some(cluster), _) => Ok(Some(cluster)),
            (None, BackendChoice::Docker) => self.pods.engine().map(Some),
            (None, BackendChoice::Auto) if wants_images => Ok(self.pods.engine().ok()),
            (None, BackendChoice::Auto | BackendChoice::Local) => Ok(None),
        }
    }

    async fn again_and_again(
        self,
        output: Output,
        from: &std::path::Path,
        secrets: &Secrets,
    ) -> Result<Exit, Failure> {
        let first = find::pick(self.pipeline.as_deref(), from)?;
        let mut changes = watch::watch(&first.root)?;
        loop {
            let ended = async {
                let file = find::pick(self.pipeline.as_deref(), from)?;
                let (_, job) = self.prepare(&file, output, secrets)?;
                let place = Place::make(&job.root)?;
                session::run(&place, job, Some(&mut changes)).await
            }
            .await;
            match ended {
                Ok(Ending::Interrupted) => return Ok(Exit::Interrupted),
                Ok(Ending::Changed) => continue,
                Ok(Ending::Finished(_) | Ending::TimedOut) => {}
                Err(failure) => term::show(&failure),
            }
            term::note("waiting for changes");
            tokio::select! {
                changed = changes.next() => changed?,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.or_fail("listen for signals")?;
                    return Ok(Exit::Interrupted);
                }
            }
        }
    }
}

/// The part of a plan that is done here, for what is asked of this machine and its user.
fn own_part(pipeline: &Pipeline, plan: &Plan, server_run: Option<&ServerRun>) -> Plan {
    let mut own = plan.clone();
    let Some(from) = server_run else { return own };
    own.nodes.retain(|node| !from.takes_over(node));
    let actions: BTreeSet<&Name> = own.nodes.iter().map(|node| &node.action).collect();
    let asked = pipeline.features_of(&actions);
    let is_of_others =
        |used: &FeatureUse| pipeline.features().any(|known| known == used) && !asked.contains(used);
    own.features.retain(|used| !is_of_others(used));
    own
}

/// What people call a working tree.
fn subject(tree: &WorkingTree) -> String {
    let on = match (&tree.branch, &tree.sha) {
        (Some(branch), Some(sha)) => format!("{} at {}", branch.name(), sha.short()),
        (Some(branch), None) => branch.name().to_owned(),
        (None, Some(sha)) => sha.short().to_owned(),
        (None, None) => "no commit".to_owned(),
    };
    let changes = if tree.dirty { ", changed" } else { "" };
    format!("working tree ({on}{changes})")
}

/// Whether it can be done here.
fn can(feature: Feature, in_containers: bool) -> bool {
    feature == Feature::Secrets || in_containers && pods::FEATURES.contains(&feature)
}

fn feature_line(file: &str, used: &FeatureUse) -> String {
    let detail = used
        .detail
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    format!(
        "  {file}:{}:{}: `{}` ({}){detail}",
        used.place.line, used.place.column, used.feature, used.path
    )
}

fn dry_run(
    pipeline: &Pipeline,
    (plan, environments): (&Plan, &BTreeMap<Name, Environment>),
    output: Output,
) -> Result<Exit, Failure> {
    match output {
        Output::Json => {
            term::say(serde_json::to_string_pretty(plan).or_fail("write the plan")?);
        }
        Output::Text => {
            term::say(pipeline.graph_text(environments).trim_end());
            term::say(format_args!(
                "{} actions, plan {}",
                plan.nodes.len(),
                plan.digest().to_short()
            ));
        }
    }
    Ok(Exit::Done)
}

fn exit_of(ending: Ending) -> Exit {
    match ending {
        Ending::Finished(outcome) => match outcome {
            Outcome::Succeeded | Outcome::Skipped => Exit::Done,
            Outcome::Failed | Outcome::Rejected | Outcome::Cancelled | Outcome::Superseded => Exit::RunFailed,
            Outcome::TimedOut => Exit::TimedOut,
            Outcome::Lost | Outcome::Errored => Exit::Ours,
        },
        Ending::Interrupted => Exit::Interrupted,
        Ending::TimedOut => Exit::TimedOut,
        Ending::Changed => Exit::Done,
    }
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(Name, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE"))?;
    let name = name.parse().map_err(|error| format!("failed to {error}"))?;
    Ok((name, value.to_owned()))
}
