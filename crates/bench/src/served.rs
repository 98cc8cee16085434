//! A server in a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::user::{User, pipe};

/// The secret of every webhook here.
pub(crate) const SECRET: &str = "correct horse battery staple";

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it is stopped when dropped.
pub(crate) struct Served {
    child: Child,
    /// Where it listens, as `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// The path of the project's webhook.
    pub(crate) hook: String,
}

impl Served {
    /// Starts `pipe server` for one project over this repository.
    pub(crate) fn start(user: &User, repository: &Path) -> Result<Self> {
        Self::start_with(user, repository, "trusted = true", "")
    }

    /// The same with its state in a Postgres database, which others may serve too.
    pub(crate) fn start_on(user: &User, repository: &Path, database: Option<&str>) -> Result<Self> {
        let database = database.map_or(String::new(), |address| format!("database = \"{address}\"\n"));
        Self::configured(user, repository, &database, ("trusted = true", ""))
    }

    /// The same with this in the project's part of the configuration, and more behind it.
    pub(crate) fn start_with(user: &User, repository: &Path, project: &str, more: &str) -> Result<Self> {
        Self::configured(user, repository, "", (project, more))
    }

    fn configured(
        user: &User,
        repository: &Path,
        first: &str,
        (project, more): (&str, &str),
    ) -> Result<Self> {
        let config = format!(
            "{first}[log]\nlevel = \"warn\"\n[projects.web]\nforge = \"gitea\"\nrepository = \"{}\"\nhook_secret = \"{SECRET}\"\n\
             {project}\n{more}\n",
            repository.display()
        );
        let file = user.path("config.toml");
        fs::write(&file, config).context("write the configuration")?;
        let mut command = user.command(&pipe()?);
        command
            .args(["server", "--listen", "127.0.0.1:0", "--config"])
            .arg(file)
            .arg("--data-dir")
            .arg(data(user));
        Self::launch(&mut command, "/hooks/")
    }

    /// Starts the bare server that commits what it gets and answers, nothing else.
    pub(crate) fn start_floor(user: &User, database: Option<&str>) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = user.command(&program);
        command.arg("floor-server").arg(user.path("floor")).args(database);
        Self::launch(&mut command, "/hooks/")
    }

    /// Starts a server and waits for the line that tells its webhook's address.
    fn launch(command: &mut Command, wanted: &str) -> Result<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn().context("start a server")?;
        let stderr = child.stderr.take().context("read a server's words")?;
        let (tell, lines) = mpsc::channel();
        // Its words are read to the end, so that it never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut served = Self {
            child,
            address: String::new(),
            hook: String::new(),
        };
        let mut said = String::new();
        while served.hook.is_empty() {
            let line = lines
                .recv_timeout(PATIENCE)
                .with_context(|| format!("the server does not start: {said}"))?;
            if let Some((_, url)) = line.split_once("http://").filter(|_| line.contains(wanted)) {
                let url = url.split_whitespace().next().unwrap_or_default();
                let (address, path) = url.split_once('/').context("a webhook without a path")?;
                served.address = address.to_owned();
                served.hook = format!("/{path}");
            }
            said.push_str(&line);
            said.push('\n');
        }
        Ok(served)
    }

    /// Resident memory of the server alone, and of it and its children, in MB.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let id = self.child.id();
        let own = resident(id)?;
        let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = listed.split_whitespace().filter_map(|child| child.parse().ok());
        // A child may end while it is looked at.
        let all: f64 = children.filter_map(|child| resident(child).ok()).sum();
        Ok((own, own + all))
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("stop a server")?;
        let status = self.child.wait().context("stop a server")?;
        ensure!(status.success(), "a server ended with {status}");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been stopped in order before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of a server's data.
pub(crate) fn data(user: &User) -> PathBuf {
    user.path("server")
}

fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("read memory")?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("a process without memory")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
