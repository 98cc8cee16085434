//! Bodies of entries: steps, gates, promotions and the rest.

use std::collections::BTreeMap;

use pipekeeper_model::{
    Bytes, Name,
    plan::{
        Artifact, Body, Build, Checkout, Gate, PodFields, Promotion, Reports, Resources, Reuse, Script,
        Secret, SecretTarget, SelfApproval, Service, Shell, Step, SubPipeline, Sync, TaintEffect, Toleration,
        Wait, WaitFor, Work, defaults,
    },
};

use super::{header, name_of, text, text_map, texts, timing};
use crate::{
    codes,
    diagnostic::Sink,
    grammar::{Kinds, Text},
    shape::{join, only_one},
    yaml::{Node, Style, Value},
};

/// What a step takes from around it.
#[derive(Clone, Debug)]
pub(super) struct StepDefaults {
    pub(super) image: Option<String>,
    pub(super) shell: Shell,
}

/// The body of a leaf.
pub(super) fn body(
    node: &Node,
    kind: Kinds,
    path: &str,
    step: &StepDefaults,
    env: BTreeMap<String, String>,
    sink: &mut Sink<'_>,
) -> Option<Body> {
    Some(match kind {
        Kinds::APPROVE => Body::Approve(gate(node.get("approve")?, &join(path, "approve"), sink)),
        Kinds::PROMOTE => Body::Promote(Promotion {
            environment: name_of(&text(node, "promote")?)?,
            images: texts(node.get("images")),
            tag_only: text(node, "wait").as_deref() == Some("tag"),
        }),
        Kinds::SYNC => Body::Sync(sync(node.get("sync")?)?),
        Kinds::WAIT => Body::Wait(Wait {
            wait_for: wait(node.get("wait")?, &join(path, "wait"), sink)?,
        }),
        Kinds::CALL => Body::Call(SubPipeline {
            pipeline: name_of(&text(node, "call")?)?,
            with: names(node.get("with"), |value| value.text().map(str::to_owned)),
        }),
        _ => Body::Work(Box::new(work(node, path, step, env, sink))),
    })
}

/// `shell:`.
pub(super) fn shell_of(node: &Node) -> Option<Shell> {
    match text(node, "shell")?.as_str() {
        "bash" => Some(Shell::Bash),
        _ => Some(Shell::Sh),
    }
}

fn work(
    node: &Node,
    path: &str,
    outer: &StepDefaults,
    env: BTreeMap<String, String>,
    sink: &mut Sink<'_>,
) -> Work {
    let outer = StepDefaults {
        image: text(node, "image").or_else(|| outer.image.clone()),
        shell: shell_of(node).unwrap_or(outer.shell),
    };
    let working_dir = text(node, "working_dir");
    let steps = match node.get("steps") {
        None => script(node, outer.shell, sink)
            .map(|script| Step {
                name: "step 1".to_owned(),
                image: outer.image.clone(),
                script,
                env: BTreeMap::new(),
                timeout: None,
                working_dir: working_dir.clone(),
            })
            .into_iter()
            .collect(),
        Some(steps) => {
            let path = join(path, "steps");
            let read = steps.items().iter().enumerate().filter_map(|(index, node)| {
                let mut step = step(node, index, &format!("{path}[{index}]"), &outer, sink)?;
                step.working_dir = step.working_dir.or_else(|| working_dir.clone());
                Some(step)
            });
            read.collect()
        }
    };
    Work {
        steps,
        env,
        checkout: checkout(node.get("checkout")),
        uses: Vec::new(),
        artifacts: names(node.get("artifacts"), |value| Some(artifact(value))),
        caches: texts(node.get("cache"))
            .iter()
            .filter_map(|name| name_of(name))
            .collect(),
        secrets: secrets(node.get("secrets"), &join(path, "secrets"), sink),
        services: names(node.get("services"), service),
        reports: Reports {
            junit: texts(node.get("reports").and_then(|reports| reports.get("junit"))),
        },
        resources: node.get("resources").map(|resources| Resources {
            cpu: text(resources, "cpu"),
            memory: text(resources, "memory"),
        }),
        pod: node
            .get("pod")
            .map(|pod| pod_fields(pod, &join(path, "pod"), sink))
            .unwrap_or_default(),
        environment: None,
        cluster: None,
        credentials: texts(node.get("credentials"))
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        log_limit: text(node, "log_limit")
            .and_then(|text| text.parse().ok())
            .map_or(defaults::LOG_LIMIT, |Bytes(limit)| limit),
        reuse: node.get("reuse").map(|reuse| Reuse {
            inputs: texts(reuse.get("inputs")),
            env: texts(reuse.get("env")),
        }),
    }
}

fn step(node: &Node, index: usize, path: &str, outer: &StepDefaults, sink: &mut Sink<'_>) -> Option<Step> {
    let keys = ["run", "command", "build"];
    let there: Vec<&str> = keys.into_iter().filter(|key| node.get(key).is_some()).collect();
    if there.len() > 1 {
        let message = format!("a step does one thing, and here are `{}`", there.join("` and `"));
        sink.error(codes::SEVERAL_KINDS, path, &node.head(), message)
            .help("make each a step of its own");
    } else if there.is_empty() && matches!(node.value, Value::Map(_)) {
        sink.error(
            codes::NO_KIND,
            path,
            &node.head(),
            "nothing says what this step does",
        )
        .help("add `run`, `command` or `build`");
    }
    Some(Step {
        name: text(node, "name").unwrap_or_else(|| format!("step {}", index + 1)),
        image: text(node, "image").or_else(|| outer.image.clone()),
        script: script(node, shell_of(node).unwrap_or(outer.shell), sink)?,
        env: text_map(node.get("env")),
        timeout: text(node, "timeout").and_then(|text| text.parse().ok()),
        working_dir: text(node, "working_dir"),
    })
}

fn script(node: &Node, shell: Shell, sink: &Sink<'_>) -> Option<Script> {
    if let Some(run) = node.get("run") {
        let line = sink.lines.place(run.span.start).line;
        return Some(Script::Shell {
            shell,
            text: run.text()?.to_owned(),
            line: match sink.lines.slice(&run.span).bytes().next() {
                // The indicator of a block stands on the line before the text.
                Some(b'|' | b'>') if is_block(run) => line + 1,
                _ => line,
            },
        });
    }
    if let Some(command) = node.get("command") {
        return Some(Script::Command {
            argv: texts(Some(command)),
        });
    }
    let build = node.get("build")?;
    Some(Script::Build(Box::new(Build {
        context: text(build, "context").unwrap_or_else(|| ".".to_owned()),
        file: text(build, "file").unwrap_or_else(|| "Dockerfile".to_owned()),
        repository: text(build, "repository")?,
        args: text_map(build.get("args")),
        platforms: texts(build.get("platforms")),
        push_always: text(build, "push").as_deref() == Some("always"),
    })))
}

fn is_block(node: &Node) -> bool {
    matches!(
        node.value,
        Value::Scalar {
            style: Style::Block,
            ..
        }
    )
}

fn checkout(node: Option<&Node>) -> Checkout {
    match node {
        None => Checkout::Files,
        Some(node) => match node.bool() {
            Some(true) => Checkout::Files,
            Some(false) => Checkout::None,
            None => Checkout::Extended {
                depth: node
                    .get("depth")
                    .and_then(Node::int)
                    .and_then(|number| u32::try_from(number).ok()),
                submodules: node.get("submodules").and_then(Node::bool).unwrap_or(false),
                lfs: node.get("lfs").and_then(Node::bool).unwrap_or(false),
            },
        },
    }
}

fn artifact(node: &Node) -> Artifact {
    match node.get("paths") {
        Some(paths) => Artifact {
            paths: texts(Some(paths)),
            always: node.get("always").and_then(Node::bool).unwrap_or(false),
        },
        None => Artifact {
            paths: texts(Some(node)),
            always: false,
        },
    }
}

fn secrets(node: Option<&Node>, path: &str, sink: &mut Sink<'_>) -> Vec<Secret> {
    let items = node.map(Node::items).unwrap_or_default();
    let read = items.iter().enumerate().filter_map(|(index, item)| {
        if let Some(name) = item.text() {
            return Some(Secret {
                name: name.to_owned(),
                target: SecretTarget::Env(name.to_owned()),
            });
        }
        let key = only_one(item, &["env", "file"], &format!("{path}[{index}]"), sink)?;
        let place = text(item, key)?;
        Some(Secret {
            name: text(item, "name")?,
            target: match key {
                "file" => SecretTarget::File(place),
                _ => SecretTarget::Env(place),
            },
        })
    });
    read.collect()
}

fn service(node: &Node) -> Option<Service> {
    Some(Service {
        image: text(node, "image")?,
        env: text_map(node.get("env")),
        ready: text(node, "ready"),
        condition: text(node, "if"),
    })
}

fn pod_fields(node: &Node, path: &str, sink: &mut Sink<'_>) -> PodFields {
    let tolerations = node.get("tolerations").map(Node::items).unwrap_or_default();
    let tolerations = tolerations.iter().enumerate().map(|(index, item)| {
        let is_any = text(item, "operator").as_deref() == Some("Exists");
        if let (true, Some(value)) = (is_any, item.get("value")) {
            let path = format!("{path}.tolerations[{index}].value");
            let message = "`operator: Exists` stands for any value, and here is one";
            sink.error(codes::KEYS_TOGETHER, &path, &value.span, message)
                .help("take `operator` out to tolerate this value, or `value` to tolerate any");
        }
        Toleration {
            key: text(item, "key"),
            // Without a key there is no value to compare.
            value: (!is_any && item.get("key").is_some()).then(|| text(item, "value").unwrap_or_default()),
            effect: text(item, "effect").and_then(|text| {
                TaintEffect::ALL
                    .into_iter()
                    .find(|effect| effect.as_str() == text)
            }),
            seconds: item
                .get("tolerationSeconds")
                .and_then(Node::int)
                .and_then(|seconds| u64::try_from(seconds).ok()),
        }
    });
    PodFields {
        tolerations: tolerations.collect(),
        node_selector: text_map(node.get("nodeSelector")),
        priority_class: text(node, "priorityClassName"),
        runtime_class: text(node, "runtimeClassName"),
    }
}

fn gate(node: &Node, path: &str, sink: &mut Sink<'_>) -> Gate {
    Gate {
        text: node
            .text()
            .map(str::to_owned)
            .or_else(|| text(node, "text"))
            .unwrap_or_default(),
        by: texts(node.get("by"))
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        count: node
            .get("count")
            .and_then(Node::int)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(1),
        self_approval: match node.get("self").and_then(Node::bool) {
            Some(true) => SelfApproval::Allowed,
            Some(false) | None => SelfApproval::Refused,
        },
        params: header::params(node.get("params"), &join(path, "params"), sink),
        keep_all: text(node, "keep").as_deref() == Some("all"),
    }
}

fn sync(node: &Node) -> Option<Sync> {
    if let Some(app) = node.text() {
        return Some(Sync::App { app: name_of(app)? });
    }
    Some(Sync::Inline {
        path: text(node, "path")?,
        environment: name_of(&text(node, "environment")?)?,
        images: texts(node.get("images")),
    })
}

fn wait(node: &Node, path: &str, sink: &mut Sink<'_>) -> Option<WaitFor> {
    if node.text().is_some() {
        sink.error(
            codes::KEYS_TOGETHER,
            path,
            &node.span,
            "`wait: tag` stands beside `promote` only",
        )
        .help("write `wait: { for: 10m }`, `{ until: \"22:00\" }` or `{ between: [\"22:00\", \"06:00\"] }`");
        return None;
    }
    timing::wait(node, path, sink)
}

/// The values of a mapping by name, those that are sound.
fn names<T>(node: Option<&Node>, read: impl Fn(&Node) -> Option<T>) -> BTreeMap<Name, T> {
    let pairs = node.map(Node::pairs).unwrap_or_default();
    pairs
        .iter()
        .filter(|pair| Text::Name.check(&pair.key).is_ok())
        .filter_map(|pair| Some((name_of(&pair.key)?, read(&pair.value)?)))
        .collect()
}
