//! A real `git push`: from the start of the repository's hook to the first command of the first step.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};

use super::scheduling::wait_for_lines;
use crate::{
    figure::{Figure, Samples, Target},
    forge::Repository,
    served::{SECRET, Served},
    user::{User, git, millis, pipe, time},
};

const ROUNDS: usize = 41;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let told = user.told().display().to_string();
    let pipeline = format!(
        "on: {{ push: {{ branches: [main] }} }}\nactions:\n  - {{ name: work, run: 'echo $PIPE_SHA $(date +%s%N) >> {told}' }}\n"
    );
    let repository = Repository::make(&user, &pipeline, 1)?;
    let served = Served::start(&user, &repository.bare)?;
    set_hook(&user, &served, &repository.bare)?;
    let bare = repository.bare.display().to_string();
    let (work, mirror) = (user.path("clone"), user.path("mirror.git"));
    git(
        &user.path("work"),
        &["clone", "-q", &bare, &work.display().to_string()],
    )?;
    git(
        &user.path("work"),
        &["clone", "-q", "--mirror", &bare, &mirror.display().to_string()],
    )?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        git(
            &work,
            &["commit", "-q", "--allow-empty", "-m", &format!("Change {round}")],
        )?;
        let sha = git(&work, &["rev-parse", "HEAD"])?;
        git(&work, &["push", "-q", "origin", "main"])?;
        wait_for_lines(&user.told(), 1)?;
        let lines = user.take_told()?;
        let (ran, at) = lines
            .first()
            .and_then(|line| line.split_once(' '))
            .context("the step wrote nothing")?;
        ensure!(ran == sha && lines.len() == 1, "the step ran for another commit");
        let arrived: f64 = fs::read_to_string(user.path("arrived"))?.trim().parse()?;
        let fetched = fetch(&user, &mirror, &sha)?;
        if round > 0 {
            ours.add((at.parse::<f64>()? - arrived) / 1e6);
            floor.add(fetched);
        }
    }
    served.stop()?;
    Ok(vec![Figure {
        what: "`git push` to a warm server: from the start of the hook to the first command of the step",
        unit: "ms",
        ours,
        floor: Some(("bare `git fetch` of the commit", floor)),
        target: Target::AtMost(45.0),
    }])
}

fn set_hook(user: &User, served: &Served, bare: &Path) -> Result<()> {
    let secret = user.path("secret");
    fs::write(&secret, SECRET).context("write the secret")?;
    let text = format!(
        "#!/bin/sh\ndate +%s%N > '{}'\nexec '{}' hook-post --url http://{}{} --secret-file '{}' --repository mall/web\n",
        user.path("arrived").display(),
        pipe()?.display(),
        served.address,
        served.hook,
        secret.display(),
    );
    let hook = bare.join("hooks/post-receive");
    fs::create_dir_all(bare.join("hooks")).context("make a folder")?;
    fs::write(&hook, text).context("write the hook")?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).context("write the hook")
}

fn fetch(user: &User, mirror: &Path, sha: &str) -> Result<f64> {
    let started = Instant::now();
    time(
        user.command(Path::new("git"))
            .current_dir(mirror)
            .args(["fetch", "--quiet", "origin", sha]),
    )?;
    Ok(millis(started.elapsed()))
}
