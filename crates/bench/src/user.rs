//! A user with folders of their own, who calls the binary beside this program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// The user; everything goes when it is dropped.
pub(crate) struct User {
    root: TempDir,
}

impl User {
    pub(crate) fn new() -> Result<Self> {
        let parent = env::var_os("PIPE_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let root = tempfile::Builder::new()
            .prefix("pipe-bench-")
            .tempdir_in(parent)
            .context("make a folder")?;
        for folder in ["work/.pipe", "home", "state", "cache"] {
            fs::create_dir_all(root.path().join(folder)).context("make a folder")?;
        }
        Ok(Self { root })
    }

    pub(crate) fn write_pipeline(&self, text: &str) -> Result<()> {
        fs::write(self.path("work/.pipe/web.yaml"), text).context("write the pipeline")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// The file that steps append to.
    pub(crate) fn told(&self) -> PathBuf {
        self.path("told")
    }

    /// A command with nothing of this machine's user in its environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("USER", "bench")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// How long a call of `pipe` takes, which must succeed.
    pub(crate) fn time_pipe(&self, args: &[&str]) -> Result<Duration> {
        time(self.command(&pipe()?).args(args))
    }

    /// How long a shell takes for this script.
    pub(crate) fn time_shell(&self, script: &str) -> Result<Duration> {
        time(self.command(Path::new("sh")).args(["-c", script]))
    }

    /// Takes the lines that steps wrote since the last time.
    pub(crate) fn take_told(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.told()).context("read what the steps wrote")?;
        fs::remove_file(self.told()).context("forget what the steps wrote")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Checks that the numbers up to `count` were written once each, in order.
    pub(crate) fn check_told(&self, count: usize) -> Result<()> {
        let wanted: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        ensure!(
            self.take_told()? == wanted,
            "steps did not run once each, in order"
        );
        Ok(())
    }
}

/// The binary that is measured.
pub(crate) fn pipe() -> Result<PathBuf> {
    let pipe = env::current_exe()
        .context("find this program")?
        .with_file_name("pipe");
    ensure!(pipe.exists(), "`{}` is not built", pipe.display());
    Ok(pipe)
}

/// How long a command takes, which must succeed.
pub(crate) fn time(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let output = command.output().context("start a command")?;
    let took = started.elapsed();
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}

/// Milliseconds.
pub(crate) fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// Runs git and gives what it says.
pub(crate) fn git(folder: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Bench", "-c", "user.email=bench@example.org"])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .context("start git")?;
    if !output.status.success() {
        bail!("git {args:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
