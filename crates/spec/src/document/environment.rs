//! `kind: Environment`: a place that a release may reach, and what stands in front of it. Its keys are in
//! [`super::environment_keys`].

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Approver, Millis, Name, Patterns, Window};
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
    parts::{Names, is_default, length, maybe_length},
};
use crate::codes;

/// A place that a release may reach. Environments are global; a project sets what `project_may_set` lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The tag that marks what it runs; `${{ release }}` and `${{ revision }}` stand for the release's. None means its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The environments that a release must have passed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after: After,
    /// The cluster that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// The namespace there; `${{ project }}` stands for the project's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where its images are, if not where they were built; `${{ image }}` stands for the image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The branches whose releases it admits.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub branches: Patterns,
    /// Who must approve; none means nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// How long a release must have run in an environment of `after`.
    #[serde(default, with = "maybe_length", skip_serializing_if = "Option::is_none")]
    pub soak: Option<Millis>,
    /// When it may move.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub windows: BTreeSet<Window>,
    /// Whether a release that may reach it does so by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto: bool,
    /// The pipeline that verifies a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Name>,
    /// What happens when that fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_verify_failed: OnFailedMove,
    /// How long followers may take to be healthy.
    #[serde(default = "settling", with = "length", skip_serializing_if = "is_settling")]
    pub timeout: Millis,
    /// What happens when they are not by then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailedMove,
    /// Variables of the actions that name it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// How many of its last releases stay tagged.
    #[serde(default = "kept", skip_serializing_if = "is_kept")]
    pub keep: u32,
    /// What a rollback needs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollback: Rollback,
    /// The way for urgent releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expedite: Option<Expedite>,
    /// What a project may say about it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub project_may_set: BTreeSet<EnvironmentKey>,
}

/// The environments that a release must have passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// At least one of these.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub any: BTreeSet<Name>,
    /// Every one of these.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub all: BTreeSet<Name>,
}

/// Who must approve a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// How many distinct people.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// Who counts; empty means whoever may approve in the project.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub by: BTreeSet<Approver>,
    /// Whether the one who asked for the move counts too.
    #[serde(default, rename = "self", skip_serializing_if = "is_default")]
    pub by_requester: bool,
    /// How long the question stands.
    #[serde(default = "week", with = "length", skip_serializing_if = "is_week")]
    pub expires: Millis,
}

/// What happens when a move fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailedMove {
    /// It stays, and is shown as failed.
    #[default]
    Stay,
    /// It goes back to the release of before.
    Rollback,
}

/// What a rollback needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// How many approvals.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approvals: u32,
}

/// The way for urgent releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expedite {
    /// The branches whose releases may take it.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub branches: Patterns,
    /// The rules that do not hold on it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skip: BTreeSet<SkippedRule>,
    /// Who must approve; none means as otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
}

/// A rule that urgent releases may skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkippedRule {
    /// `after`.
    After,
    /// `soak`.
    Soak,
    /// `windows`.
    Windows,
}

/// A key that a project may set for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentKey {
    /// `branches`.
    Branches,
    /// `cluster`.
    Cluster,
    /// `namespace`.
    Namespace,
    /// `repository`.
    Repository,
    /// `vars`.
    Vars,
    /// `verify`.
    Verify,
}

impl EnvironmentKey {
    /// The key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
            Self::Repository => "repository",
            Self::Vars => "vars",
            Self::Verify => "verify",
        }
    }
}

impl Environment {
    /// As it is for one project, whose name stands where it says so.
    #[must_use]
    pub fn of_project(mut self, project: &Name) -> Self {
        self.namespace = self.namespace.map(|text| fill(&text, project.as_str()));
        self
    }

    /// The environments that `after` names.
    pub(super) fn before(&self) -> Names {
        self.after.any.union(&self.after.all).cloned().collect()
    }

    pub(super) fn references(&self) -> Vec<Reference> {
        refer(Kind::Cluster, &self.cluster, &["cluster"])
            .chain(refer(Kind::Environment, &self.after.any, &["after", "any"]))
            .chain(refer(Kind::Environment, &self.after.all, &["after", "all"]))
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let approvals = self.approvals.iter().map(|approvals| (approvals, "approvals"));
        let urgent = self.expedite.iter().flat_map(|expedite| &expedite.approvals);
        let urgent = urgent.map(|approvals| (approvals, "expedite.approvals"));
        let too_few = approvals
            .chain(urgent)
            .filter_map(|(approvals, keys)| approvals.doubt(keys));
        let soak = (self.soak.is_some() && self.after == After::default()).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["soak"],
                "`soak` counts from a release's arrival in an environment of `after`, and there is none",
                "add `after`, or remove `soak`",
            )
        });
        too_few.chain(soak).collect()
    }
}

impl Approvals {
    /// Users alone may be too few.
    fn doubt(&self, keys: &str) -> Option<Doubt> {
        let is_user = |approver: &Approver| matches!(approver, Approver::User(_));
        let people = u32::try_from(self.by.len()).unwrap_or(u32::MAX);
        let is_too_few = !self.by.is_empty() && self.by.iter().all(is_user) && people < self.count;
        let keys: Vec<&str> = keys.split('.').chain(["count"]).collect();
        is_too_few.then(|| {
            Doubt::nobody(
                &keys,
                format!("{} approvals are wanted, and `by` names {people}", self.count),
                "name more users, or a role",
            )
        })
    }
}

/// A text with its placeholders, all of one kind, replaced; the check has seen that each has an end.
fn fill(text: &str, value: &str) -> String {
    let mut parts = text.split("${{");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once("}}").map_or(part, |(_, after)| after));
    rest.fold(first, |filled, part| filled + value + part)
}

const SETTLING: Millis = Millis::minutes(15);
const KEPT: u32 = 20;
const WEEK: Millis = Millis::days(7);

fn settling() -> Millis {
    SETTLING
}

fn is_settling(length: &Millis) -> bool {
    *length == SETTLING
}

fn kept() -> u32 {
    KEPT
}

fn is_kept(keep: &u32) -> bool {
    *keep == KEPT
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

fn week() -> Millis {
    WEEK
}

fn is_week(length: &Millis) -> bool {
    *length == WEEK
}
