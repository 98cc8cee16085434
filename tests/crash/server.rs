//! One life of a server.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client::Client,
    driver::wait_until,
    place::{PROJECT, Place},
};

/// A running server; it dies when dropped.
pub(crate) struct Server {
    child: Child,
    client: Client,
    log: PathBuf,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(place: &Place, failpoint: Option<&str>) -> Result<Self, String> {
        let log = (1..)
            .map(|number| place.path(&format!("server-{number}.log")))
            .find(|path| !path.exists())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command
            .arg("server")
            .arg("--config")
            .arg(place.path("config.toml"))
            .current_dir(place.root())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", place.path("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        if let Some(failpoint) = failpoint {
            command.env("PIPE_FAILPOINT", failpoint);
        }
        let mut child = command.spawn().unwrap();
        let mut address = None;
        let started = wait_until("the server listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("the server ended at its start: {status}"));
            }
            address = find_address(&fs::read_to_string(&log).unwrap());
            Ok(address.is_some())
        });
        let server = Self {
            client: Client {
                address: address.unwrap_or_default(),
                token: fs::read_to_string(place.data().join("admin.token"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                hook: find_hook(place).unwrap_or_default(),
            },
            child,
            log,
        };
        started.map(|()| server)
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where it listens after it began anew.
    pub(crate) fn client_now(&self) -> Client {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Client {
            address: find_address(&log).unwrap_or_default(),
            ..self.client()
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Asks it to end in order.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        kill_process(self.pid(), Signal::TERM).map_err(|error| error.to_string())?;
        let mut status = None;
        wait_until("the server ends", || {
            status = self.ended();
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            status => Err(format!(
                "the server was asked to end and ended with {:?}, signal {:?}",
                status.and_then(|status| status.code()),
                status.and_then(|status| status.signal())
            )),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `page     http://127.0.0.1:41234/`
fn find_address(log: &str) -> Option<String> {
    // The greeting is whole once the webhook's line is there.
    log.lines()
        .find(|line| line.starts_with("webhook") && line.contains("/hooks/"))?;
    let page = log.lines().rfind(|line| line.starts_with("page"))?;
    let address = page.split_whitespace().nth(1)?;
    Some(address.strip_prefix("http://")?.trim_end_matches('/').to_owned())
}

fn find_hook(place: &Place) -> Option<String> {
    let text = fs::read_to_string(place.data().join("hooks.json")).ok()?;
    let hooks: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(format!("/hooks/{}", hooks[PROJECT].as_str()?))
}
