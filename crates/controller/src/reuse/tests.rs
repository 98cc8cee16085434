use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pipekeeper_backend::{KeepWorkspace, LaunchError, Orphan, SecretValue, SourceInput, Tier};
use pipekeeper_engine::{Earlier, Envelope, Input, Origin, Run, RunRequest, decide, evolve};
use pipekeeper_model::{
    Actor, AttemptId, Digest, EventKind, NodeId, Revision, RunContext, RunId, Timestamp, TriggerEvent,
    plan::{Body, Secret, SecretTarget, Work},
};
use pipekeeper_spec::{PlanRequest, SourceFile, check};

use crate::{CacheTiers, Habits, Supplies, launch::Draft};

const FILE: &str = "
on: { manual: true }
params: { level: { type: string, default: low } }
env: { LEVEL: '${{ params.level }}', NOISE: quiet }
image: debian:13
actions:
  - name: build
    run: make
    services: { db: { image: 'postgres:15', env: { E: '${{ params.level }}' } } }
    reuse: { inputs: [src], env: [LEVEL, PIPE_BRANCH] }
";

/// A source of one file and a run of one tier.
struct Given {
    files: Digest,
    tiers: CacheTiers,
}

impl Given {
    fn new(files: &str, reads: &[Tier]) -> Self {
        Self {
            files: Digest::of(files.as_bytes()),
            tiers: CacheTiers {
                writes: reads[0],
                reads: reads.to_vec(),
            },
        }
    }
}

#[async_trait]
impl Supplies for Given {
    async fn source(&self, _: &RunRequest) -> Result<SourceInput, LaunchError> {
        Ok(SourceInput::Empty)
    }

    async fn digest_files(&self, _: &RunRequest, _: &[String]) -> Result<Digest, LaunchError> {
        Ok(self.files.clone())
    }

    async fn secrets(&self, _: &RunRequest, _: &Work) -> Result<Vec<SecretValue>, LaunchError> {
        Ok(Vec::new())
    }

    fn cache_tiers(&self, _: &RunRequest) -> CacheTiers {
        self.tiers.clone()
    }

    fn habits(&self) -> Habits {
        Habits {
            keep_workspace: KeepWorkspace::Never,
            orphan: Orphan::WorkOn,
        }
    }
}

/// A run of this file whose only attempt is looked at.
struct Asked {
    file: String,
    run: u64,
    level: Option<&'static str>,
    project: &'static str,
}

impl Asked {
    fn file(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            run: 7,
            level: None,
            project: "mall",
        }
    }

    fn draft(&self, change: impl Fn(&mut Work)) -> Draft {
        let source = SourceFile {
            path: ".pipe/web.yaml",
            text: &self.file,
        };
        let (pipeline, _) = check(&source)
            .unwrap_or_else(|found| panic!("{}", found.render(&source, pipekeeper_spec::Color::Never)));
        let event = TriggerEvent {
            kind: EventKind::Manual,
            revision: Revision {
                repository: "mall/web".to_owned(),
                sha: None,
                git_ref: None,
                subject: format!("run {}", self.run),
            },
            schedule: None,
        };
        let level = self
            .level
            .map(|level| ("level".parse().unwrap(), level.to_owned()));
        let mut plan = pipeline
            .plan(&PlanRequest {
                event: &event,
                params: &BTreeMap::from_iter(level),
                selected: None,
                environments: &BTreeMap::new(),
            })
            .unwrap();
        let node = plan.find("build").unwrap();
        if let Body::Work(work) = &mut plan.nodes[node.index()].body {
            change(work);
        }
        let request = Arc::new(RunRequest {
            project: self.project.parse().unwrap(),
            plan,
            context: RunContext {
                event,
                changed: Vec::new(),
            },
            group: None,
            adopted: None,
            earlier: Earlier::Adopt,
            origin: Origin::Repository,
            asked_before: std::collections::BTreeSet::new(),
        });
        let mut run = Run::new(RunId(self.run));
        let asked = Envelope {
            at: Timestamp(1_000),
            actor: Actor::System,
            body: Input::RunRequested(request),
        };
        for event in decide(&run, &asked).unwrap().events {
            evolve(&mut run, &event);
        }
        let attempt = AttemptId {
            run: RunId(self.run),
            node: NodeId(node.0),
            number: 1,
        };
        Draft::new(&run, attempt).unwrap()
    }

    async fn digests(&self, given: &Given) -> Vec<Digest> {
        self.draft(|_| {}).input_digests(given).await.unwrap()
    }
}

fn plain() -> Given {
    Given::new("one", &[Tier::Branches])
}

#[tokio::test]
async fn what_varies_unnamed_from_run_to_run_does_not_count() {
    let first = Asked::file(FILE).digests(&plain()).await;
    assert_eq!(first.len(), 1);
    let later = Asked {
        run: 8,
        ..Asked::file(FILE)
    };
    assert_eq!(later.digests(&plain()).await, first);
    let moved = FILE.replace(
        "actions:",
        "# more\n\nactions:\n  - { name: other, run: make other }",
    );
    assert_eq!(Asked::file(moved).digests(&plain()).await, first);
}

#[tokio::test]
async fn a_computed_variable_counts_by_its_value_though_it_is_not_named() {
    for (from, to) in [
        ("NOISE: quiet", "NOISE: '${{ run.id }}'"),
        (
            "    run: make\n",
            "    steps: [{ run: make, env: { NOISE: '${{ run.id }}' } }]\n",
        ),
    ] {
        let of_run = |run| Asked {
            run,
            ..Asked::file(FILE.replace(from, to))
        };
        let first = of_run(7).digests(&plain()).await;
        assert_eq!(of_run(7).digests(&plain()).await, first);
        assert_ne!(of_run(8).digests(&plain()).await, first, "{to}");
    }
}

#[tokio::test]
async fn all_that_a_result_depends_on_counts() {
    let base = Asked::file(FILE).digests(&plain()).await;
    let mut seen = vec![base.clone()];
    let mut differs = |what: &str, digests: Vec<Digest>| {
        assert!(!seen.contains(&digests), "{what} does not count");
        seen.push(digests);
    };
    differs(
        "a file",
        Asked::file(FILE)
            .digests(&Given::new("two", &[Tier::Branches]))
            .await,
    );
    let project = Asked {
        project: "shop",
        ..Asked::file(FILE)
    };
    differs("the project", project.digests(&plain()).await);
    let named = Asked {
        level: Some("high"),
        ..Asked::file(FILE)
    };
    differs("a named variable", named.digests(&plain()).await);
    for (what, from, to) in [
        ("the script", "run: make", "run: make all"),
        ("the shell", "run: make", "shell: bash\n    run: make"),
        ("the image", "debian:13", "debian:14"),
        ("a service", "postgres:15", "postgres:16"),
        ("what the file sets", "NOISE: quiet", "NOISE: loud"),
        ("the globs", "inputs: [src]", "inputs: [src, lib]"),
        ("a secret's name", "run: make", "secrets: [TOKEN]\n    run: make"),
        (
            "a step",
            "    run: make\n",
            "    steps: [{ run: make }, { run: make }]\n",
        ),
        (
            "an artifact",
            "run: make",
            "artifacts: { web: out }\n    run: make",
        ),
    ] {
        differs(what, Asked::file(FILE.replace(from, to)).digests(&plain()).await);
    }
    let mut renamed = Asked::file(FILE.replace("on: { manual", "name: other\non: { manual"));
    renamed.run = 9;
    differs("the pipeline", renamed.digests(&plain()).await);
}

#[tokio::test]
async fn nothing_is_said_of_inputs_without_files() {
    assert!(
        Asked::file(FILE)
            .digests(&Given::new("", &[Tier::Branches]))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn only_the_own_and_more_trusted_tiers_are_adopted_from() {
    let asked = Asked::file(FILE);
    let trusted = asked.digests(&Given::new("one", &[Tier::Protected])).await;
    let branch = asked
        .digests(&Given::new("one", &[Tier::Branches, Tier::Protected]))
        .await;
    assert_eq!(trusted.len(), 1, "it never reads what others wrote");
    assert_eq!(branch.len(), 2);
    assert_ne!(branch[0], trusted[0], "it writes under its own tier");
    assert_eq!(branch[1], trusted[0]);
}

#[tokio::test]
async fn what_was_made_with_secrets_stays_in_its_tier() {
    let given = Given::new("one", &[Tier::Branches, Tier::Protected]);
    let draft = Asked::file(FILE).draft(|work| {
        work.secrets = vec![Secret {
            name: "TOKEN".to_owned(),
            target: SecretTarget::Env("TOKEN".to_owned()),
        }];
    });
    assert_eq!(draft.input_digests(&given).await.unwrap().len(), 1);
}
