//! Checks every expression of a file against what it may name where it stands.

use std::collections::BTreeMap;

use pipekeeper_model::{Name, plan::Section};

use super::{Owner, header::Header, roster::Roster};
use crate::{
    definition::Target,
    diagnostic::Sink,
    graph::Graph,
    shape::Site,
    template::{Results, Surroundings, check_site},
};

/// Checks the expressions; without a graph, every action counts as ended.
pub(super) fn check(
    sites: impl Iterator<Item = (Owner, Site)>,
    header: &Header,
    roster: &Roster,
    graph: Option<&Graph>,
    source: &str,
    sink: &mut Sink<'_>,
) {
    let actions: BTreeMap<String, Results> = roster
        .leaves
        .iter()
        .filter_map(|leaf| {
            let results = if leaf.axes.is_empty() {
                Results::Single
            } else {
                Results::ByCell
            };
            Some((leaf.name.as_ref().map(Name::to_string)?, results))
        })
        .collect();
    for (owner, site) in sites {
        let listed = match owner {
            Owner::File => None,
            Owner::Entry(target) => roster.listed(target),
        };
        let is_finally = listed.is_some_and(|listed| listed.section == Section::Finally);
        let has_ended = |name: &str| has_ended(name, owner, is_finally, roster, graph);
        let around = Surroundings {
            params: &header.param_types,
            matrix: listed.map(|listed| listed.axes.clone()).unwrap_or_default(),
            is_finally,
            actions: &actions,
            has_ended: &has_ended,
        };
        check_site(&site, &around, source, sink);
    }
}

fn has_ended(name: &str, owner: Owner, is_finally: bool, roster: &Roster, graph: Option<&Graph>) -> bool {
    let Some(Target::Leaf(action)) = roster.names.get(name) else {
        return false;
    };
    let is_main = roster
        .leaves
        .get(*action)
        .is_some_and(|leaf| leaf.section == Section::Main);
    match (graph, owner) {
        (_, Owner::File) => false,
        (None, Owner::Entry(_)) => true,
        (Some(_), Owner::Entry(_)) if is_finally && is_main => true,
        (Some(graph), Owner::Entry(Target::Leaf(leaf))) => graph.ends_before(*action, leaf),
        (Some(graph), Owner::Entry(Target::Group(group))) => graph.ends_before_group(*action, group),
    }
}
