//! From nested lists to edges: who waits for whom.
//!
//! Lists become vertices of their own (the start and end of a group, the border between two entries), so their number
//! of edges is linear; they are dissolved at the end. Entry: [`draw`].

use std::collections::BTreeSet;

use crate::definition::{Group, Member, Order, Target, What};

/// The edges between actions.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// For each action the actions it needs, sorted.
    pub(crate) needs: Vec<Vec<usize>>,
    before: Vec<Bits>,
    before_group: Vec<Bits>,
}

impl Graph {
    /// Whether an action has surely ended when another one's turn comes.
    pub(crate) fn ends_before(&self, earlier: usize, later: usize) -> bool {
        self.before.get(later).is_some_and(|bits| bits.has(earlier))
    }

    /// Whether an action has surely ended when a group's turn comes.
    pub(crate) fn ends_before_group(&self, earlier: usize, group: usize) -> bool {
        self.before_group.get(group).is_some_and(|bits| bits.has(earlier))
    }
}

/// What the drawing needs to know of each action.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    /// The actions whose artifacts it uses.
    pub(crate) uses: Vec<usize>,
    /// Whether its conditions name outcomes: then its own success says nothing about what stands before it.
    pub(crate) judges: bool,
}

/// The entries of a cycle, each waiting for the next; the last waits for the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cycle(pub(crate) Vec<Target>);

/// Draws the edges of lists that know nothing of each other: `actions` and `finally`.
pub(crate) fn draw(lists: &[&[Member]], leaves: &[Leaf], groups: usize) -> Result<Graph, Cycle> {
    let mut drawing = Drawing {
        vertices: vec![Vertex::default(); leaves.len() + 2 * groups],
        leaves: leaves.len(),
    };
    for list in lists {
        let base = drawing.add(Vec::new());
        drawing.serial(list, base, &[]);
    }
    for (index, leaf) in leaves.iter().enumerate() {
        if let Some(vertex) = drawing.vertices.get_mut(index) {
            vertex.asked.extend(&leaf.uses);
        }
    }
    let order = drawing.sort().map_err(|rest| drawing.cycle(&rest))?;
    Ok(drawing.dissolve(&order, leaves, groups))
}

#[derive(Clone, Debug, Default)]
struct Vertex {
    /// What it waits for by its place in the file.
    placed: Vec<usize>,
    /// What it waits for by `needs` and `use`.
    asked: Vec<usize>,
}

impl Vertex {
    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        self.placed.iter().chain(&self.asked).copied()
    }
}

struct Drawing {
    /// The leaves, then the start and end of each group, then borders.
    vertices: Vec<Vertex>,
    leaves: usize,
}

impl Drawing {
    fn add(&mut self, placed: Vec<usize>) -> usize {
        self.vertices.push(Vertex {
            placed,
            asked: Vec::new(),
        });
        self.vertices.len() - 1
    }

    fn start_of(&self, group: usize) -> usize {
        self.leaves + 2 * group
    }

    fn end_of(&self, group: usize) -> usize {
        self.leaves + 2 * group + 1
    }

    /// The vertex that ends after every member has ended.
    fn serial(&mut self, members: &[Member], base: usize, gates: &[usize]) -> usize {
        let mut gates = gates.to_vec();
        let mut front = base;
        for member in members {
            let end = self.member(member, front, &gates);
            if member.gate {
                gates.push(end);
            }
            front = self.add(vec![front, end]);
        }
        front
    }

    fn parallel(&mut self, members: &[Member], base: usize, gates: &[usize]) -> usize {
        let mut ends: Vec<usize> = members
            .iter()
            .map(|member| self.member(member, base, gates))
            .collect();
        ends.push(base);
        self.add(ends)
    }

    fn member(&mut self, member: &Member, front: usize, gates: &[usize]) -> usize {
        let gates = if member.ungated { &[] } else { gates };
        let (placed, asked) = match &member.needs {
            None => (vec![front], Vec::new()),
            Some(targets) => {
                let asked = targets.iter().map(|target| match target {
                    Target::Leaf(leaf) => *leaf,
                    Target::Group(group) => self.end_of(*group),
                });
                (gates.to_vec(), asked.collect())
            }
        };
        let vertex = match &member.what {
            What::Leaf(leaf) => *leaf,
            What::Group(group) => self.start_of(group.id),
        };
        if let Some(vertex) = self.vertices.get_mut(vertex) {
            *vertex = Vertex { placed, asked };
        }
        match &member.what {
            What::Leaf(leaf) => *leaf,
            What::Group(group) => self.group(group, gates),
        }
    }

    fn group(&mut self, group: &Group, gates: &[usize]) -> usize {
        let (start, end) = (self.start_of(group.id), self.end_of(group.id));
        let last = match group.order {
            Order::Serial => self.serial(&group.members, start, gates),
            Order::Parallel => self.parallel(&group.members, start, gates),
        };
        if let Some(vertex) = self.vertices.get_mut(end) {
            vertex.placed.push(last);
        }
        end
    }

    /// An order in which everything comes after what it waits for; or the vertices that have none.
    fn sort(&self) -> Result<Vec<usize>, Vec<bool>> {
        let mut waiting: Vec<usize> = self.vertices.iter().map(|vertex| vertex.all().count()).collect();
        let mut followers = vec![Vec::new(); self.vertices.len()];
        for (index, vertex) in self.vertices.iter().enumerate() {
            for need in vertex.all() {
                if let Some(list) = followers.get_mut(need) {
                    list.push(index);
                }
            }
        }
        let mut order: Vec<usize> = (0..waiting.len()).filter(|index| waiting[*index] == 0).collect();
        let mut next = 0;
        while let Some(vertex) = order.get(next).copied() {
            next += 1;
            for follower in followers.get(vertex).into_iter().flatten() {
                if let Some(count) = waiting.get_mut(*follower) {
                    *count -= 1;
                    if *count == 0 {
                        order.push(*follower);
                    }
                }
            }
        }
        if order.len() == waiting.len() {
            Ok(order)
        } else {
            Err(waiting.into_iter().map(|count| count > 0).collect())
        }
    }

    /// One cycle among the vertices left over: each of them waits for another one of them.
    fn cycle(&self, rest: &[bool]) -> Cycle {
        let is_left = |vertex: &usize| rest.get(*vertex).copied().unwrap_or(false);
        let mut seen: Vec<usize> = Vec::new();
        let mut at = (0..rest.len()).find(is_left);
        while let Some(vertex) = at {
            if let Some(first) = seen.iter().position(|one| *one == vertex) {
                seen.drain(..first);
                break;
            }
            seen.push(vertex);
            at = self
                .vertices
                .get(vertex)
                .and_then(|vertex| vertex.all().find(is_left));
        }
        let leaves: Vec<Target> = seen
            .iter()
            .filter(|vertex| **vertex < self.leaves)
            .map(|vertex| Target::Leaf(*vertex))
            .collect();
        if !leaves.is_empty() {
            return Cycle(leaves);
        }
        let group = seen.iter().filter(|vertex| **vertex >= self.leaves);
        Cycle(
            group
                .take(1)
                .map(|vertex| Target::Group((vertex - self.leaves) / 2))
                .collect(),
        )
    }

    /// Replaces the vertices that are no leaves by the leaves they stand for.
    fn dissolve(&self, order: &[usize], leaves: &[Leaf], groups: usize) -> Graph {
        let none = Bits::new(self.leaves);
        let mut graph = Graph {
            needs: vec![Vec::new(); self.leaves],
            before: vec![none.clone(); self.leaves],
            before_group: vec![none.clone(); groups],
        };
        // What a leaf's turn proves to have ended well: unlike `before`, nothing that stands before a leaf that judges outcomes.
        let mut implied = vec![none.clone(); self.leaves];
        let mut stands_for: Vec<Vec<usize>> = vec![Vec::new(); self.vertices.len()];
        for vertex in order {
            let (Some(wants), index) = (self.vertices.get(*vertex), *vertex) else {
                continue;
            };
            let expand = |list: &[usize]| -> BTreeSet<usize> {
                list.iter()
                    .filter_map(|need| stands_for.get(*need))
                    .flatten()
                    .copied()
                    .collect()
            };
            let asked = expand(&wants.asked);
            let mut all = expand(&wants.placed);
            all.extend(&asked);
            let mut covered = none.clone();
            let mut before = none.clone();
            for leaf in &all {
                covered.join(&implied[*leaf]);
                before.join(&graph.before[*leaf]);
                before.set(*leaf);
            }
            all.retain(|leaf| asked.contains(leaf) || !covered.has(*leaf));
            if index >= self.leaves {
                let group = (index - self.leaves) / 2;
                if group < groups && index == self.start_of(group) {
                    graph.before_group[group] = before;
                }
                stands_for[index] = all.into_iter().collect();
                continue;
            }
            if leaves.get(index).is_some_and(|leaf| !leaf.judges) {
                for leaf in &all {
                    covered.set(*leaf);
                }
                implied[index] = covered;
            }
            graph.before[index] = before;
            graph.needs[index] = all.into_iter().collect();
            stands_for[index] = vec![index];
        }
        graph
    }
}

/// A set of action indices.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn has(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn join(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}
