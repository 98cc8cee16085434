//! `pipe run` of one step, from the call to the prompt, beside a bare shell and a bare start of the binary.

use std::path::Path;

use anyhow::Result;

use crate::{
    figure::{Figure, Samples, Target},
    user::{User, millis, time},
};

const ROUNDS: usize = 51;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let told = user.told().display().to_string();
    user.write_pipeline(&format!(
        "on: {{ manual: true }}\nactions:\n  - {{ name: work, run: 'echo 1 >> {told}' }}\n"
    ))?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let shell = time(user.command(Path::new("sh")).args(["-c", "true"]))?;
        let version = user.time_pipe(&["--version"])?;
        let took = user.time_pipe(&["run"])?;
        user.check_told(1)?;
        if round > 0 {
            floor.add(millis(shell) + millis(version));
            ours.add(millis(took));
        }
    }
    Ok(vec![Figure {
        what: "`pipe run` of one step, whole call",
        unit: "ms",
        ours,
        floor: Some(("`sh -c true` and `pipe --version`", floor)),
        target: Target::AtMost(10.0),
    }])
}
