//! Makes a failing simulation smaller: fewer acts, fewer faults, smaller plans, as long as it fails in the same way.

use super::{Options, simulate};

/// How many simulations shrinking may cost.
const BUDGET: u32 = 400;

/// The smallest options found that break the same invariant.
pub fn shrink(options: &Options) -> Options {
    let Some(violation) = simulate(options).violation else {
        return options.clone();
    };
    let mut shrinking = Shrinking {
        best: options.clone(),
        invariant: violation.invariant,
        left: BUDGET,
    };
    let mut before = None;
    while before.as_ref() != Some(&shrinking.best) && shrinking.left > 0 {
        before = Some(shrinking.best.clone());
        shrinking.drop_acts();
        shrinking.drop_faults();
        shrinking.drop_nodes();
    }
    shrinking.best
}

struct Shrinking {
    best: Options,
    invariant: &'static str,
    left: u32,
}

impl Shrinking {
    /// Keeps a smaller candidate if it fails in the same way.
    fn keep(&mut self, candidate: Options) -> bool {
        if self.left == 0 || candidate == self.best {
            return false;
        }
        self.left -= 1;
        let fails = simulate(&candidate)
            .violation
            .is_some_and(|violation| violation.invariant == self.invariant);
        if fails {
            self.best = candidate;
        }
        fails
    }

    fn drop_acts(&mut self) {
        // From the end: acts after the failure do not matter.
        while self.best.acts > 1 {
            let mut candidate = self.best.clone();
            candidate.acts /= 2;
            if !self.keep(candidate) {
                break;
            }
        }
        for number in (0..self.best.acts).rev() {
            let mut candidate = self.best.clone();
            if number + 1 == candidate.acts {
                candidate.acts = number;
                candidate.dropped.remove(&number);
            } else {
                candidate.dropped.insert(number);
            }
            self.keep(candidate);
        }
    }

    fn drop_faults(&mut self) {
        let faults: Vec<_> = self.best.faults.keys().copied().collect();
        for fault in faults {
            let mut candidate = self.best.clone();
            candidate.faults.remove(&fault);
            self.keep(candidate);
        }
    }

    fn drop_nodes(&mut self) {
        while self.best.nodes > 1 {
            let mut candidate = self.best.clone();
            candidate.nodes -= 1;
            if !self.keep(candidate) {
                break;
            }
        }
    }
}
