//! One action of 100 steps, beside the same commands in a shell's loop.

use anyhow::Result;

use crate::{
    figure::{Figure, Samples, Target},
    user::{User, millis},
};

const STEPS: usize = 100;
const ROUNDS: usize = 21;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let told = user.told().display().to_string();
    let steps: String = (1..=STEPS)
        .map(|number| format!("      - {{ run: 'echo {number} >> {told}' }}\n"))
        .collect();
    user.write_pipeline(&format!(
        "on: {{ manual: true }}\nactions:\n  - name: work\n    steps:\n{steps}"
    ))?;
    let words: String = (1..=STEPS).map(|number| format!(" {number}")).collect();
    let script = format!("for i in{words}; do sh -c \"echo $i >> {told}\"; done");
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let loop_took = user.time_shell(&script)?;
        user.check_told(STEPS)?;
        let pipe_took = user.time_pipe(&["run"])?;
        user.check_told(STEPS)?;
        // The first round warms the caches of the machine.
        if round > 0 {
            floor.add(millis(loop_took) / STEPS as f64);
            ours.add(millis(pipe_took) / STEPS as f64);
        }
    }
    Ok(vec![Figure {
        what: "`pipe run`, one action of 100 steps, whole call, per step",
        unit: "ms",
        ours,
        floor: Some(("`sh -c` in a loop of `sh`", floor)),
        target: Target::RatioAtMost(1.3),
    }])
}
