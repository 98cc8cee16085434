//! Definition and request to plan: parameters read, actions selected, matrices expanded, plan-time texts worked out.
//!
//! Entry: [`plan`].

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_expr::{Fuel, Template, Value};
use pipekeeper_model::{
    MAX_PARAM, Name, NodeId, ParamValue, Plan, TriggerEvent,
    plan::{Body, Build, Concurrency, FeatureUse, Node, PodFields, Script, UseArtifact, Work},
};

use crate::{
    definition::{Action, Definition, FixedText, Owners, Target},
    document::Environment,
    environments,
    request::{PlanError, PlanRequest},
    suggest::did_you_mean,
};

/// Makes the plan of one run.
pub(crate) fn plan(definition: &Definition, request: &PlanRequest<'_>) -> Result<Plan, Vec<PlanError>> {
    let mut errors = Vec::new();
    let params = params(definition, request, &mut errors);
    let selected = select(definition, request.selected, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut planner = Planner {
        scope: scope(request.event, &params),
        environments: request.environments,
        clusters: Vec::new(),
        errors,
    };
    let nodes = planner.nodes(&definition.actions, &selected);
    let concurrency = definition.concurrency.as_ref().map(|concurrency| Concurrency {
        group: planner.text(&concurrency.group, "concurrency.group"),
        ..concurrency.clone()
    });
    if !planner.errors.is_empty() {
        return Err(planner.errors);
    }
    let features = features(definition, &selected);
    let (nodes, environments) = environments::guard(nodes, definition, request.environments);
    Ok(Plan {
        pipeline: definition.name.clone(),
        file: definition.file.clone(),
        params,
        nodes,
        caches: definition.caches.clone(),
        max_parallel: definition.max_parallel,
        on_failure: definition.on_failure,
        concurrency,
        features: features.into_iter().chain(planner.clusters).collect(),
        environments,
    })
}

fn params(
    definition: &Definition,
    request: &PlanRequest<'_>,
    errors: &mut Vec<PlanError>,
) -> BTreeMap<Name, ParamValue> {
    let declared = &definition.params;
    let unknown = request.params.keys().filter(|name| !declared.contains_key(*name));
    errors.extend(unknown.map(|name| PlanError::UnknownParam {
        name: name.clone(),
        known: match declared.len() {
            0 => "none".to_owned(),
            _ => format!("`{}`", join(declared.keys())),
        },
    }));
    let mut values = BTreeMap::new();
    for (name, param) in declared {
        let read = match (request.params.get(name), &param.default) {
            (Some(text), _) if text.contains('\0') || text.len() > MAX_PARAM => Err(PlanError::BadParam {
                name: name.clone(),
                value: text.chars().take(20).collect(),
                wanted: "text of at most 64 KiB without NUL characters".to_owned(),
            }),
            (Some(text), _) => param.kind.read(text).ok_or_else(|| PlanError::BadParam {
                name: name.clone(),
                value: text.clone(),
                wanted: param.kind.describe(),
            }),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(PlanError::MissingParam {
                name: name.clone(),
                wanted: param.kind.describe(),
            }),
        };
        match read {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(error) => errors.push(error),
        }
    }
    values
}

fn join<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    names.map(Name::as_str).collect::<Vec<_>>().join("`, `")
}

/// What these actions themselves ask of backends and of this version, and what the whole file asks.
pub(crate) fn features_of(definition: &Definition, actions: &BTreeSet<&Name>) -> Vec<FeatureUse> {
    let all = (0..).zip(&definition.actions);
    let wanted = all.filter(|(_, action)| actions.contains(&action.node.action));
    features(definition, &wanted.map(|(index, _)| index).collect())
}

fn features(definition: &Definition, selected: &BTreeSet<usize>) -> Vec<FeatureUse> {
    let is_wanted = |owners: &Owners| match owners {
        Owners::Pipeline => true,
        Owners::Actions(range) => selected.range(range.clone()).next().is_some(),
        Owners::Cache(cache) => {
            let mut actions = selected.iter().filter_map(|index| definition.actions.get(*index));
            actions.any(|action| action.has_cache(cache.as_str()))
        }
    };
    let wanted = (definition.features.iter()).filter(|feature| is_wanted(&feature.owners));
    wanted.map(|feature| feature.used.clone()).collect()
}

/// The indices of the actions wanted and of all that they need.
fn select(
    definition: &Definition,
    wanted: Option<&[String]>,
    errors: &mut Vec<PlanError>,
) -> BTreeSet<usize> {
    let Some(wanted) = wanted else {
        return (0..definition.actions.len()).collect();
    };
    let mut open = Vec::new();
    for name in wanted {
        let mut actions = definition.actions.iter();
        match actions.position(|action| action.node.action.as_str() == name) {
            Some(index) => open.push(index),
            None => {
                let known = definition
                    .actions
                    .iter()
                    .map(|action| action.node.action.as_str());
                let hint = did_you_mean(name, known).map_or_else(String::new, |hint| format!("; {hint}"));
                errors.push(PlanError::UnknownAction {
                    name: name.clone(),
                    hint,
                });
            }
        }
    }
    let mut selected = BTreeSet::new();
    while let Some(index) = open.pop() {
        if let Some(action) = definition.actions.get(index).filter(|_| selected.insert(index)) {
            open.extend(&action.needs);
            open.extend(action.uses.iter().map(|(from, _)| *from));
        }
    }
    selected
}

/// What plan-time texts may name, but for the matrix.
fn scope(event: &TriggerEvent, params: &BTreeMap<Name, ParamValue>) -> BTreeMap<String, Value> {
    let text = |text: Option<&str>| Value::String(text.unwrap_or_default().to_owned());
    let map = |pairs: Vec<(&str, Value)>| {
        Value::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    };
    let revision = &event.revision;
    let params = params.iter().map(|(name, value)| {
        let value = match value {
            ParamValue::Bool(value) => Value::Bool(*value),
            ParamValue::Int(value) => Value::Int(*value),
            ParamValue::Text(value) => Value::String(value.clone()),
        };
        (name.to_string(), value)
    });
    BTreeMap::from([
        (
            "event".to_owned(),
            map(vec![
                ("kind", text(Some(event.kind.as_str()))),
                ("schedule", text(event.schedule.as_deref())),
            ]),
        ),
        ("branch".to_owned(), text(event.branch())),
        ("tag".to_owned(), text(event.tag())),
        (
            "revision".to_owned(),
            map(vec![
                ("sha", text(revision.sha.as_ref().map(|sha| sha.as_str()))),
                ("repository", text(Some(&revision.repository))),
                ("subject", text(Some(&revision.subject))),
            ]),
        ),
        ("params".to_owned(), Value::Map(params.collect())),
        ("matrix".to_owned(), Value::Map(BTreeMap::new())),
    ])
}

struct Planner<'e> {
    scope: BTreeMap<String, Value>,
    environments: &'e BTreeMap<Name, Environment>,
    /// The clusters that environments bring, beside those that the file names.
    clusters: Vec<FeatureUse>,
    errors: Vec<PlanError>,
}

impl Planner<'_> {
    fn nodes(&mut self, actions: &[Action], selected: &BTreeSet<usize>) -> Vec<Node> {
        let cells: BTreeMap<usize, Vec<Cell>> = selected
            .iter()
            .filter_map(|index| Some((*index, cells(&actions.get(*index)?.matrix))))
            .collect();
        // The nodes of an action stand together: the first one's number and the cells tell them all.
        let mut first = BTreeMap::new();
        let mut count = 0;
        for (index, cells) in &cells {
            first.insert(*index, count);
            count += cells.len();
        }
        let ids = |action: usize| {
            let start = first.get(&action).copied().unwrap_or(0);
            let length = cells.get(&action).map_or(0, Vec::len);
            (start..start + length).map(|id| NodeId(u32::try_from(id).unwrap_or(u32::MAX)))
        };
        let mut nodes = Vec::with_capacity(count);
        let mut holds = Vec::with_capacity(count);
        for (index, own) in &cells {
            let Some(action) = actions.get(*index) else {
                continue;
            };
            let needs: Vec<NodeId> = action.needs.iter().flat_map(|need| ids(*need)).collect();
            let uses: Vec<UseArtifact> = action
                .uses
                .iter()
                .flat_map(|(from, artifact)| {
                    let makers = cells.get(from).into_iter().flatten();
                    ids(*from).zip(makers).map(|(from, cell)| UseArtifact {
                        from,
                        artifact: artifact.clone(),
                        into: cell.folder(artifact),
                    })
                })
                .collect();
            for cell in own {
                nodes.push(self.node(action, cell, needs.clone(), uses.clone()));
                holds.push(action.hold);
            }
        }
        hold_together(&mut nodes, &holds);
        nodes
    }

    fn node(&mut self, action: &Action, cell: &Cell, needs: Vec<NodeId>, uses: Vec<UseArtifact>) -> Node {
        let matrix = cell.0.iter();
        let matrix = matrix.map(|(axis, value)| (axis.to_string(), Value::String(value.clone())));
        self.scope
            .insert("matrix".to_owned(), Value::Map(matrix.collect()));
        let mut node = Node {
            name: format!("{}{}", action.node.name, cell.suffix()),
            cell: cell.0.iter().cloned().collect(),
            needs,
            ..action.node.clone()
        };
        if let Some(fixed) = &action.fixed.timeout
            && let Some(timeout) = self.parsed(fixed)
        {
            node.timeout = timeout;
        }
        for (lock, fixed) in node.locks.iter_mut().zip(&action.fixed.locks) {
            if let Some(name) = self.parsed(fixed) {
                lock.name = name;
            }
        }
        let path = action.node.action.as_str();
        match &mut node.body {
            Body::Work(work) => {
                work.uses = uses;
                work.cluster = action.fixed.cluster.as_ref().and_then(|fixed| self.parsed(fixed));
                work.environment = action
                    .fixed
                    .environment
                    .as_ref()
                    .and_then(|fixed| self.parsed(fixed));
                self.work(work, path);
                self.environment(work, action);
            }
            Body::Approve(gate) => gate.text = self.text(&gate.text, &format!("{path}: approve")),
            Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => {}
        }
        node
    }

    fn work(&mut self, work: &mut Work, path: &str) {
        for step in &mut work.steps {
            if let Some(image) = &mut step.image {
                *image = self.text(image, &format!("{path}: image"));
            }
            if let Script::Build(build) = &mut step.script {
                let Build { repository, .. } = &mut **build;
                *repository = self.text(repository, &format!("{path}: build.repository"));
            }
        }
        self.pod(&mut work.pod, path);
        for (name, service) in &mut work.services {
            service.image = self.text(&service.image, &format!("{path}: services.{name}.image"));
            for (variable, value) in &mut service.env {
                *value = self.text(value, &format!("{path}: services.{name}.env.{variable}"));
            }
        }
    }

    fn environment(&mut self, work: &mut Work, action: &Action) {
        let Some(name) = work.environment.clone() else {
            return;
        };
        match environments::give(self.environments, &name, work, action) {
            Ok(Some(cluster)) if !self.clusters.contains(&cluster) => self.clusters.push(cluster),
            Ok(Some(_) | None) => {}
            Err(error) => self.fail(error),
        }
    }

    fn pod(&mut self, pod: &mut PodFields, path: &str) {
        for (label, value) in &mut pod.node_selector {
            *value = self.text(value, &format!("{path}: pod.nodeSelector.{label}"));
        }
        for value in pod.tolerations.iter_mut().filter_map(|one| one.value.as_mut()) {
            *value = self.text(value, &format!("{path}: pod.tolerations"));
        }
        for name in [&mut pod.priority_class, &mut pod.runtime_class]
            .into_iter()
            .flatten()
        {
            *name = self.text(name, &format!("{path}: pod"));
        }
    }

    /// A text with its expressions worked out.
    fn text(&mut self, text: &str, path: &str) -> String {
        if !text.contains("${{") {
            return text.to_owned();
        }
        let value = Template::parse(text)
            .map_err(|error| error.to_string())
            .and_then(|template| {
                template
                    .evaluate(&self.scope, &mut Fuel::default())
                    .map_err(|error| error.to_string())
            });
        match value {
            Ok(value) => value.to_string(),
            Err(problem) => {
                self.refuse(path, problem);
                String::new()
            }
        }
    }

    fn parsed<T>(&mut self, fixed: &FixedText) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let errors = self.errors.len();
        let text = self.text(&fixed.text, &fixed.path);
        if self.errors.len() > errors {
            return None;
        }
        text.parse()
            .map_err(|error: T::Err| self.refuse(&fixed.path, error.to_string()))
            .ok()
    }

    fn refuse(&mut self, path: &str, problem: String) {
        self.fail(PlanError::BadValue {
            path: path.to_owned(),
            problem,
        });
    }

    /// The cells of a matrix often share what is wrong with them.
    fn fail(&mut self, error: PlanError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Says of each node which others hold their locks together with it. The cells of an action that has locks of its own take
/// them one by one.
fn hold_together(nodes: &mut [Node], holds: &[Option<Target>]) {
    let mut firsts = BTreeMap::new();
    for (index, (node, hold)) in (0..).zip(nodes.iter_mut().zip(holds)) {
        node.hold = match hold {
            Some(Target::Leaf(_)) => Some(NodeId(index)),
            Some(group @ Target::Group(_)) => Some(*firsts.entry(*group).or_insert(NodeId(index))),
            None => None,
        };
    }
}

/// One combination of matrix values, axes in the order of the file.
#[derive(Clone, Debug, Default)]
struct Cell(Vec<(Name, String)>);

impl Cell {
    fn text(&self) -> String {
        let pairs = self.0.iter().map(|(axis, value)| format!("{axis}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// What follows the action's name in a node's name.
    fn suffix(&self) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            format!("[{}]", self.text())
        }
    }

    /// Where an artifact of this cell unpacks: `NAME/CELL`, or the workspace itself without a matrix.
    fn folder(&self, artifact: &Name) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            format!("{artifact}/{}", self.text().replace('/', "%2F"))
        }
    }
}

/// All combinations, the last axis running fastest; one empty cell without a matrix.
fn cells(axes: &[(Name, Vec<String>)]) -> Vec<Cell> {
    axes.iter().fold(vec![Cell::default()], |cells, (axis, values)| {
        let longer = cells.iter().flat_map(|cell| {
            values.iter().map(|value| {
                let mut longer = cell.clone();
                longer.0.push((axis.clone(), value.clone()));
                longer
            })
        });
        longer.collect()
    })
}
