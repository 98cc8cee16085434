//! Who is launched first where there is not room for all. Entry point: [`launch_order`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pipekeeper_model::{AttemptId, Name, Timestamp};

/// An attempt that waits to be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub attempt: AttemptId,
    /// Its run's project.
    pub project: Name,
    /// Since when it could be launched.
    pub since: Timestamp,
}

/// The order in which these attempts are launched: always one of the project that has the fewest at work, what goes first
/// counted in; of one project the one that has waited longest. So no project waits behind more than one attempt of each
/// other project, however many those want.
pub fn launch_order(at_work: &BTreeMap<Name, usize>, mut waiting: Vec<Candidate>) -> Vec<AttemptId> {
    waiting.sort_by_key(|candidate| (candidate.since, candidate.attempt));
    let mut lines: BTreeMap<&Name, VecDeque<&Candidate>> = BTreeMap::new();
    for candidate in &waiting {
        lines.entry(&candidate.project).or_default().push_back(candidate);
    }
    let key = |count: usize, first: &Candidate| (count, first.since, first.attempt);
    let mut next: BTreeSet<_> = lines
        .iter()
        .filter_map(|(project, line)| {
            let count = at_work.get(*project).copied().unwrap_or(0);
            Some((key(count, line.front()?), *project))
        })
        .collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(((count, _, attempt), project)) = next.pop_first() {
        order.push(attempt);
        let line = lines.get_mut(project);
        let following = line.and_then(|line| {
            line.pop_front();
            line.front().copied()
        });
        next.extend(following.map(|following| (key(count + 1, following), project)));
    }
    order
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{NodeId, RunId};

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn attempt(run: u64) -> AttemptId {
        AttemptId {
            run: RunId(run),
            node: NodeId(0),
            number: 1,
        }
    }

    fn candidate(project: &str, run: u64, since: i64) -> Candidate {
        Candidate {
            attempt: attempt(run),
            project: name(project),
            since: Timestamp(since),
        }
    }

    fn order(at_work: &[(&str, usize)], waiting: Vec<Candidate>) -> Vec<u64> {
        let at_work = at_work.iter().map(|(project, count)| (name(project), *count));
        let order = launch_order(&at_work.collect(), waiting);
        order.iter().map(|attempt| attempt.run.0).collect()
    }

    #[test]
    fn projects_take_turns_and_within_one_the_longest_wait_goes_first() {
        let many = (1..=4).map(|run| candidate("many", run, 10 - i64::try_from(run).unwrap()));
        let waiting: Vec<Candidate> = many
            .chain([candidate("few", 5, 20), candidate("few", 6, 21)])
            .collect();
        assert_eq!(order(&[], waiting.clone()), [4, 5, 3, 6, 2, 1]);
        assert_eq!(order(&[("many", 2)], waiting.clone()), [5, 6, 4, 3, 2, 1]);
        assert_eq!(order(&[("few", 2)], waiting), [4, 3, 2, 5, 1, 6]);
        assert_eq!(order(&[], Vec::new()), [] as [u64; 0]);
    }

    /// However many a project wants, another that wants one has it after at most one end for each project.
    #[test]
    fn nobody_waits_behind_a_crowd() {
        for projects in 1..6_usize {
            let crowd = (0..200_u64).map(|run| {
                let project = usize::try_from(run).unwrap() % projects;
                candidate(&format!("p{project}"), run, 0)
            });
            let waiting: Vec<Candidate> = crowd.chain([candidate("late", 999, 1_000)]).collect();
            let at_work: BTreeMap<Name, usize> = (0..projects)
                .map(|project| (name(&format!("p{project}")), 1))
                .collect();
            assert_eq!(launch_order(&at_work, waiting).first(), Some(&attempt(999)));
        }
    }
}
