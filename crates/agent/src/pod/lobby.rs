//! A pod's supervisor before it has an attempt. Entry function: [`start`].

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::crew::Crew;
use crate::link::Link;
use crate::protocol::{AttemptDir, AttemptSpec, FromAgent, PROTOCOL_VERSION, ToAgent};
use crate::signals::Signals;
use crate::supervisor::{OutputPipe, StartError, Supervisor, draw_holder, lock_folder, os};

/// What a pod's supervisor has before its attempt.
struct Lobby {
    dir: AttemptDir,
    link: Link,
    crew: Crew,
    output: OutputPipe,
    signals: Signals,
    holder: String,
    spec: Option<Box<AttemptSpec>>,
}

/// What became of the wait.
enum Turn {
    Wait,
    Leave,
}

/// Waits until the attempt is given and a runner is there for each of its containers; none if it is sent away before.
pub(crate) fn start(root: &Path) -> Result<Option<Supervisor>, StartError> {
    let dir = AttemptDir::in_pod(root);
    make_ready(&dir).map_err(os("make the pod ready"))?;
    let lock = lock_folder(&dir)?;
    let tools = dir.tools().unwrap_or(root).to_owned();
    let mut lobby = Lobby {
        link: Link::new(UnixListener::bind(dir.socket()).map_err(os("bind the socket"))?)
            .map_err(os("listen on the socket"))?,
        crew: Crew::listen(&tools).map_err(os("listen for the steps"))?,
        output: OutputPipe::open().map_err(os("make a pipe"))?,
        signals: Signals::catch().map_err(os("catch signals"))?,
        holder: holder()?,
        spec: None,
        dir,
    };
    // Only now, because the steps' containers wait for the program, and then expect the socket.
    install(&tools).map_err(os("offer the program to the steps"))?;
    let Some(spec) = lobby.wait().map_err(os("wait for an attempt"))? else {
        return Ok(None);
    };
    lobby.crew.close();
    lobby.dir.write_spec(&spec)?;
    Supervisor::in_pod(
        lobby.dir,
        *spec,
        lock,
        lobby.holder,
        (lobby.link, lobby.crew, lobby.output, lobby.signals),
    )
    .map(Some)
}

/// The pod's id where the cluster tells it, because the ticket names it.
fn holder() -> Result<String, StartError> {
    match std::env::var("PIPE_HOLDER") {
        Ok(holder) if !holder.is_empty() => Ok(holder),
        Ok(_) | Err(_) => draw_holder(),
    }
}

/// Makes the folders whose volumes are empty.
fn make_ready(dir: &AttemptDir) -> io::Result<()> {
    let tools = dir.tools().into_iter().map(Path::to_owned);
    for folder in tools.chain([dir.steps(), dir.incoming(), dir.workspace(), dir.home()]) {
        fs::create_dir_all(folder)?;
    }
    if let Some(out) = dir.output().parent() {
        fs::create_dir_all(out)?;
    }
    let volumes = std::env::var("PIPE_VOLUMES").unwrap_or_default();
    for folder in volumes.split(':').filter(|folder| !folder.is_empty()) {
        // A volume that is not ours to change is as its owner made it; a step that cannot write there says so.
        let folder = dir.path().join("volumes").join(folder);
        drop(
            fs::create_dir_all(&folder)
                .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))),
        );
    }
    Ok(())
}

/// Puts this very program where the steps' containers look for it; the program is there whole or not at all.
pub(crate) fn install(tools: &Path) -> io::Result<()> {
    let (temporary, program) = (tools.join(".agent"), tools.join("agent"));
    fs::copy("/proc/self/exe", &temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
    fs::rename(temporary, program)
}

impl Lobby {
    fn wait(&mut self) -> io::Result<Option<Box<AttemptSpec>>> {
        // Somebody may have come while the socket was made ready.
        self.greet();
        loop {
            if let Turn::Leave = self.turn()? {
                return Ok(None);
            }
            let containers = self.spec.as_ref().and_then(|spec| spec.pod.as_ref());
            let containers = containers.map_or(0, |pod| pod.containers);
            if self.spec.is_some() && self.crew.is_complete(containers) {
                return Ok(self.spec.take());
            }
            self.poll()?;
        }
    }

    fn turn(&mut self) -> io::Result<Turn> {
        self.signals.clear();
        if self.signals.take_terminate() {
            return Ok(Turn::Leave);
        }
        self.crew.admit(self.output.writer())?;
        for message in self.link.exchange() {
            match message {
                ToAgent::Assign { spec } => {
                    self.spec.get_or_insert(spec);
                }
                ToAgent::Exit | ToAgent::Leave | ToAgent::Stop { .. } => return Ok(Turn::Leave),
                ToAgent::Ping => self.link.send(&FromAgent::Pong),
                ToAgent::Begin { .. }
                | ToAgent::Go { .. }
                | ToAgent::ReadLog { .. }
                | ToAgent::Look
                | ToAgent::Unknown => {}
            }
        }
        if self.link.accept()? {
            self.greet();
        }
        Ok(Turn::Wait)
    }

    fn greet(&mut self) {
        self.link.send(&FromAgent::Ready {
            version: PROTOCOL_VERSION,
            holder: self.holder.clone(),
        });
    }

    fn poll(&self) -> io::Result<()> {
        let (listener, connection) = self.link.fds();
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
        ];
        fds.extend(
            self.crew
                .fds()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        fds.extend(connection.map(|(fd, wants)| PollFd::from_borrowed_fd(fd, wants)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
