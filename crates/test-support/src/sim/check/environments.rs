//! Judges what is recorded of nodes on environments: gates, windows and branches, worked out the slow way.

use pipekeeper_model::{
    GitRef, Name, NodeId, Outcome, Timestamp, Window, WindowRule,
    plan::{EnvironmentRule, Node},
};

use super::{book::Book, facts::Check, reference::judges_outcomes};
use crate::sim::environments::{members, place};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60;

impl Book {
    /// The environment of a node with its rule.
    pub(super) fn place_of(&self, node: &Node) -> Option<(Name, EnvironmentRule)> {
        let rules = &self.request.as_ref()?.plan.environments;
        let (name, rule) = rules.get_key_value(place(node)?)?;
        Some((name.clone(), rule.clone()))
    }

    /// The gate of the environment that a node is on.
    pub(super) fn gate_of_place(&self, node: &Node) -> Option<NodeId> {
        self.place_of(node)?.1.gate
    }

    /// Whether somebody said no there, or nobody anything in time.
    pub(super) fn place_is_closed(&self, node: &Node) -> bool {
        let settled = self.gate_of_place(node).and_then(|gate| self.settled(gate));
        settled.is_some_and(|settled| settled.outcome != Outcome::Succeeded)
    }

    /// Whether the branch is one of those that the rules of a simulation know.
    fn is_admitted(&self, rule: &EnvironmentRule) -> bool {
        let git_ref = self
            .request
            .as_ref()
            .and_then(|request| request.context.event.revision.git_ref.as_ref());
        let texts: Vec<String> = rule.branches.clone().into();
        match (texts.as_slice(), git_ref) {
            ([], _) => true,
            (texts, Some(GitRef::Branch(branch))) => match branch.as_str() {
                "main" => true,
                _ => texts.iter().any(|text| text == "d*"),
            },
            (_, Some(GitRef::Tag(_)) | None) => false,
        }
    }

    /// Whether the windows of a node's environment are shut.
    pub(super) fn is_shut(&self, node: &Node, at: Timestamp) -> bool {
        self.place_of(node)
            .is_some_and(|(_, rule)| is_shut(&rule.windows, at))
    }
}

/// The windows of a simulation are spans of every day in UTC.
fn is_shut(windows: &[Window], at: Timestamp) -> bool {
    let minute = at.0.div_euclid(MINUTE).rem_euclid(DAY);
    let holds = |window: &Window| {
        let time = |time: pipekeeper_model::TimeOfDay| i64::from(time.hour()) * 60 + i64::from(time.minute());
        (time(window.span().begin())..time(window.span().end())).contains(&minute)
    };
    let mut denying = windows
        .iter()
        .filter(|window| matches!(window.rule, WindowRule::Deny(_)));
    let mut allowing = windows
        .iter()
        .filter(|window| matches!(window.rule, WindowRule::Allow(_)));
    denying.any(holds) || (allowing.clone().next().is_some() && !allowing.any(holds))
}

impl Check<'_> {
    /// Whether the environment of a node lets it take its first step.
    pub(super) fn may_enter(&mut self, node: &Node) {
        let Some((_, rule)) = self.book.place_of(node) else {
            return;
        };
        let admitted = self.book.is_admitted(&rule);
        self.ensure(admitted, "I3", "its environment does not admit the branch");
        let Some(gate) = rule.gate else { return };
        let settled = self.book.settled(gate).map(|settled| settled.outcome);
        let approved = settled == Some(Outcome::Succeeded);
        self.ensure(approved, "I3", "the gate of its environment is not approved");
    }

    /// At a ticket: all that the environment asks holds now.
    pub(super) fn place_lets_start(&mut self, node: &Node) {
        self.may_enter(node);
        let shut = self.book.is_shut(node, self.event.at);
        self.ensure(!shut, "I3", "the window of its environment is closed");
        if let Some((_, rule)) = self.book.place_of(node) {
            if rule.gate.is_some() {
                self.hit("guard I3 ticket behind the gate of an environment");
            }
            if !rule.windows.is_empty() {
                self.hit("guard I3 ticket in an open window");
            }
        }
    }

    /// The gate of an environment asks only if something is to start there.
    pub(super) fn place_is_wanted(&mut self, gate: NodeId) {
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let rules = request.plan.environments.iter();
        let Some((environment, rule)) = rules.clone().find(|(_, rule)| rule.gate == Some(gate)) else {
            return;
        };
        let wants = |id: NodeId| {
            let Some(node) = self.book.plan_node(id) else {
                return false;
            };
            self.book.settled(id).is_none()
                && self.book.needs_are_settled(node)
                && (judges_outcomes(node) || self.book.needs_are_satisfied(node))
                && self.book.conditions_hold(node) == Some(true)
        };
        let wanted = self.book.is_admitted(rule) && members(&request.plan, environment).any(wants);
        self.ensure(wanted, "I3", "nothing is to start in that environment yet");
        self.hit("guard I3 an environment asks");
    }

    /// A node was skipped as its environment does not admit the branch.
    pub(super) fn not_admitted(&mut self, node: &Node) {
        let admitted = match self.book.place_of(node) {
            Some((_, rule)) => self.book.is_admitted(&rule),
            None => true,
        };
        self.ensure(!admitted, "I3", "its environment admits the branch");
        self.hit("guard I3 a branch is not admitted");
    }

    /// The gate of an environment was not needed.
    pub(super) fn nothing_to_start(&mut self, gate: NodeId, environment: &Name) {
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let rule = request.plan.environments.get(environment);
        let is_gate = rule.is_some_and(|rule| rule.gate == Some(gate));
        let mut members = members(&request.plan, environment);
        let all = members.all(|id| self.book.settled(id).is_some());
        self.ensure(is_gate && all, "I3", "something may still start there");
        self.hit("guard I3 an environment is not entered");
    }
}
