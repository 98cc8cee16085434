//! Entries of lists: leaves and groups with what they inherit. Entry type: [`Entries`].

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{
    Millis,
    plan::{Body, Condition, Node as PlanNode, Place, Section, Wait, WaitFor, defaults},
};

use super::{
    Lowered, Owner,
    header::Header,
    locks::{self, Locks},
    roster::{Roster, kind_of},
    text, text_map, timing,
    work::{self, StepDefaults, shell_of},
};
use crate::{
    codes,
    definition::{Action, Fixed, FixedText, Group, Member, Order, OwnedFeature, Owners, Target, What},
    diagnostic::Sink,
    grammar::{DEFINING, ENTRY, Kinds},
    shape::{self, Found, join},
    template::judges_outcomes,
    yaml::{Node, Value},
};

/// How deep groups may nest.
const MAX_GROUPS: usize = 16;
/// How long a promotion or sync may take until what it moved is healthy.
const HEALTHY: Millis = Millis::minutes(15);

/// Reads the lists of a file, in the order of the roster.
pub(super) struct Entries<'e, 's> {
    pub(super) header: &'e Header,
    pub(super) roster: &'e Roster,
    pub(super) sink: &'e mut Sink<'s>,
    pub(super) lowered: Lowered,
    groups: usize,
}

/// What an entry inherits from the groups around it and the file.
#[derive(Clone, Debug)]
struct Around {
    labels: Vec<String>,
    conditions: Vec<Condition>,
    env: BTreeMap<String, String>,
    own_env: BTreeSet<String>,
    step: StepDefaults,
    cluster: Option<FixedText>,
    environment: Option<FixedText>,
    locks: Locks,
    section: Section,
}

impl Around {
    /// What the members of an entry inherit, or what it has itself.
    fn with(&self, node: &Node, path: &str) -> Self {
        let mut inner = self.clone();
        if let Some(expression) = text(node, "if") {
            inner.conditions.push(Condition {
                judges_outcomes: judges_outcomes(&expression),
                expression,
            });
        }
        let env = text_map(node.get("env"));
        inner.own_env.extend(env.keys().cloned());
        inner.env.extend(env);
        inner.step.image = text(node, "image").or(inner.step.image);
        inner.step.shell = shell_of(node).unwrap_or(inner.step.shell);
        inner.cluster = fixed(node, "cluster", path).or(inner.cluster);
        inner.environment = fixed(node, "environment", path).or(inner.environment);
        inner
    }
}

impl<'e, 's> Entries<'e, 's> {
    pub(super) fn new(header: &'e Header, roster: &'e Roster, sink: &'e mut Sink<'s>) -> Self {
        Self {
            header,
            roster,
            sink,
            lowered: Lowered {
                actions: Vec::new(),
                features: Vec::new(),
                sites: Vec::new(),
            },
            groups: 0,
        }
    }

    /// Reads `actions` or `finally`.
    pub(super) fn list(&mut self, root: &Node, key: &str, section: Section) -> Vec<Member> {
        let around = Around {
            labels: Vec::new(),
            conditions: Vec::new(),
            env: self.header.env.clone(),
            own_env: BTreeSet::new(),
            step: StepDefaults {
                image: self.header.image.clone(),
                shell: self.header.shell,
            },
            cluster: self.header.cluster.clone(),
            environment: None,
            locks: Locks::default(),
            section,
        };
        self.members(root, key, key, &around)
    }

    pub(super) fn finish(self) -> Lowered {
        self.lowered
    }

    fn members(&mut self, node: &Node, key: &str, path: &str, around: &Around) -> Vec<Member> {
        let items = node.get(key).map(Node::items).unwrap_or_default();
        let mut members = Vec::new();
        for (index, item) in items.iter().enumerate() {
            members.extend(self.entry(item, &format!("{path}[{index}]"), around));
        }
        members
    }

    fn entry(&mut self, node: &Node, path: &str, around: &Around) -> Option<Member> {
        let found = shape::walk(node, &ENTRY, path, self.sink);
        let Some((key, kind)) = kind_of(node) else {
            if matches!(node.value, Value::Map(_)) {
                self.report_no_kind(node, path);
            }
            return None;
        };
        self.check_keys(node, key, kind, path, around.section);
        let needs = self.needs(node, path, around.section);
        let ungated = node.get("ungated").and_then(Node::bool).unwrap_or(false);
        if ungated && needs.is_none() {
            self.clash(node, "ungated", path, "`ungated` means nothing without `needs`");
        }
        let mut inner = around.with(node, path);
        let first = self.lowered.actions.len();
        let target = if kind == Kinds::GROUP {
            Target::Group(self.groups)
        } else {
            Target::Leaf(first)
        };
        inner
            .locks
            .take(locks::read(node.get("lock"), &join(path, "lock")), target);
        let what = if kind == Kinds::GROUP {
            What::Group(self.group(node, key, path, inner))
        } else {
            self.leaf(node, kind, path, inner);
            What::Leaf(first)
        };
        self.keep(found, target, first);
        Some(Member {
            what,
            needs,
            ungated,
            gate: kind == Kinds::APPROVE,
        })
    }

    fn keep(&mut self, found: Found, target: Target, first: usize) {
        let owners = Owners::Actions(first..self.lowered.actions.len());
        let features = found.features.into_iter().map(|used| OwnedFeature {
            owners: owners.clone(),
            used,
        });
        self.lowered.features.extend(features);
        let sites = found.sites.into_iter().map(|site| (Owner::Entry(target), site));
        self.lowered.sites.extend(sites);
    }

    fn group(&mut self, node: &Node, key: &'static str, path: &str, mut around: Around) -> Group {
        let id = self.groups;
        self.groups += 1;
        let label = text(node, "name").unwrap_or_else(|| key.to_owned());
        around.labels.push(label.clone());
        if around.labels.len() == MAX_GROUPS + 1
            && let Some(pair) = node.pair(key)
        {
            let message = format!("groups are nested deeper than {MAX_GROUPS} levels");
            self.sink.error(codes::TOO_DEEP, path, &pair.key_span, message);
        }
        Group {
            id,
            label,
            order: if key == "parallel" {
                Order::Parallel
            } else {
                Order::Serial
            },
            members: self.members(node, key, &join(path, key), &around),
        }
    }

    fn leaf(&mut self, node: &Node, kind: Kinds, path: &str, around: Around) {
        let index = self.lowered.actions.len();
        let listed = self.roster.leaves.get(index);
        let Some(name) = listed.and_then(|listed| listed.name.clone()) else {
            return;
        };
        self.check_promotion(node, kind, path);
        self.check_caches(node, path);
        let uses = self.uses(node, path, around.section);
        let body = work::body(node, kind, path, &around.step, around.env, self.sink);
        if let Some(Body::Work(work)) = &body {
            self.check_reuse(node, path, work, around.environment.is_some(), around.section);
        }
        // An ill-shaped body has been reported; the numbering of the actions must stay that of the roster.
        let body = body.unwrap_or(Body::Wait(Wait {
            wait_for: WaitFor::Elapsed { length: Millis(0) },
        }));
        let limit = self.time_limit(node, path);
        let timeout = limit.as_ref().and_then(|limit| limit.text.parse().ok());
        let (locks, lock_names) = around.locks.all.into_iter().unzip();
        let matrix = self.matrix(node, path);
        self.lowered.actions.push(Action {
            node: PlanNode {
                name: name.to_string(),
                action: name,
                cell: BTreeMap::new(),
                groups: around.labels,
                needs: Vec::new(),
                conditions: around.conditions,
                start: timing::start(node.get("start"), &join(path, "start"), self.sink),
                section: around.section,
                allow_failure: node.get("allow_failure").and_then(Node::bool).unwrap_or(false),
                timeout: timeout.unwrap_or_else(|| default_timeout(&body)),
                retry: timing::retry(node.get("retry")),
                locks,
                hold: None,
                place: self.place(node),
                body,
            },
            needs: Vec::new(),
            uses,
            matrix,
            hold: around.locks.hold,
            fixed: Fixed {
                timeout: limit.filter(|_| timeout.is_none()),
                cluster: around.cluster,
                environment: around.environment,
                own_env: around.own_env,
                locks: lock_names,
            },
        });
    }

    fn place(&self, node: &Node) -> Place {
        self.sink.lines.place(node.span.start)
    }

    fn report_no_kind(&mut self, node: &Node, path: &str) {
        let keys: Vec<String> = DEFINING.iter().map(|(key, _)| format!("`{key}`")).collect();
        self.sink
            .error(
                codes::NO_KIND,
                path,
                &node.head(),
                "nothing says what this entry is",
            )
            .help(format!("add one of {}", keys.join(", ")));
    }

    fn check_keys(&mut self, node: &Node, key: &str, kind: Kinds, path: &str, section: Section) {
        for pair in node.pairs() {
            let here = join(path, &pair.key);
            let is_tag_wait = &*pair.key == "wait" && kind == Kinds::PROMOTE && pair.value.text().is_some();
            if DEFINING.iter().any(|(other, _)| *other == &*pair.key) {
                if &*pair.key != key && !is_tag_wait {
                    let message = format!("this entry is a `{key}` already; `{}` makes it another", pair.key);
                    self.sink
                        .error(codes::SEVERAL_KINDS, &here, &pair.key_span, message)
                        .help("make each an entry of its own");
                }
                continue;
            }
            let grammar = ENTRY.keys.iter().find(|known| known.name == &*pair.key);
            if grammar.is_some_and(|known| !known.kinds.holds(kind)) {
                let message = format!("`{}` makes no sense beside `{key}`", pair.key);
                self.sink
                    .error(codes::MISPLACED_KEY, &here, &pair.key_span, message)
                    .help("remove it, or move it to the entry that it is about");
            }
        }
        if section == Section::Finally {
            self.check_finally(node, key, kind, path);
        }
    }

    fn check_finally(&mut self, node: &Node, key: &str, kind: Kinds, path: &str) {
        let is_gate = kind == Kinds::APPROVE || kind == Kinds::PROMOTE;
        if let Some(pair) = node.pair(key).filter(|_| is_gate) {
            let message = format!("`finally` holds no `{key}`: nobody waits there");
            self.sink
                .error(codes::FINALLY, &join(path, key), &pair.key_span, message)
                .help("move it to `actions`");
        }
        let waits = node
            .pair("start")
            .filter(|pair| pair.value.text() != Some("auto"));
        if let Some(pair) = waits {
            self.sink
                .error(
                    codes::FINALLY,
                    &join(path, "start"),
                    &pair.key_span,
                    "entries of `finally` start by themselves",
                )
                .help("remove `start`");
        }
    }

    fn clash(&mut self, node: &Node, key: &str, path: &str, message: &str) {
        if let Some(pair) = node.pair(key) {
            self.sink
                .error(codes::KEYS_TOGETHER, &join(path, key), &pair.key_span, message)
                .help(format!("remove `{key}`"));
        }
    }
}

fn default_timeout(body: &Body) -> Millis {
    match body {
        Body::Work(_) => defaults::TIMEOUT,
        Body::Approve(_) => defaults::GATE,
        // A wait ends by its own clock, and another pipeline by its own deadlines.
        Body::Wait(_) | Body::Call(_) => defaults::RUN,
        Body::Promote(_) | Body::Sync(_) => HEALTHY,
    }
}

fn fixed(node: &Node, key: &str, path: &str) -> Option<FixedText> {
    Some(FixedText {
        text: text(node, key)?,
        path: join(path, key),
    })
}
