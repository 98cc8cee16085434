//! Fifty actions in a chain, each in a folder of its own, beside a loop that makes a folder and starts a shell in it.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result};

use crate::{
    figure::{Figure, Samples, Target},
    user::{User, millis, time},
};

const ACTIONS: usize = 50;
const ROUNDS: usize = 21;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let told = user.told().display().to_string();
    let actions: String = (1..=ACTIONS)
        .map(|number| format!("  - {{ name: a{number}, run: 'echo {number} >> {told}' }}\n"))
        .collect();
    user.write_pipeline(&format!("on: {{ manual: true }}\nactions:\n{actions}"))?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let bare_took = bare(&user, &told)?;
        user.check_told(ACTIONS)?;
        let pipe_took = millis(user.time_pipe(&["run"])?);
        user.check_told(ACTIONS)?;
        if round > 0 {
            floor.add(bare_took / ACTIONS as f64);
            ours.add(pipe_took / ACTIONS as f64);
        }
    }
    Ok(vec![Figure {
        what: "`pipe run`, 50 actions in a chain, own folders, whole call, per action",
        unit: "ms",
        ours,
        floor: Some(("a folder and one `sh -c` in it", floor)),
        target: Target::AtMost(1.8),
    }])
}

fn bare(user: &User, told: &str) -> Result<f64> {
    let folders = user.path("bare");
    let started = Instant::now();
    for number in 1..=ACTIONS {
        let folder = folders.join(number.to_string());
        fs::create_dir_all(&folder).context("make a folder")?;
        let script = format!("echo {number} >> {told}");
        time(
            user.command(Path::new("sh"))
                .current_dir(folder)
                .args(["-c", &script]),
        )?;
    }
    let took = millis(started.elapsed());
    fs::remove_dir_all(folders).context("remove the folders")?;
    Ok(took)
}
