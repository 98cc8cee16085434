//! A pod's supervisor without an attempt: before the first, and between two. Entry function: [`serve`].

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::bulk;
use super::crew::Crew;
use crate::link::Link;
use crate::protocol::{AttemptDir, AttemptSpec, CONTAINER_MARK, FromAgent, PROTOCOL_VERSION, ToAgent};
use crate::signals::Signals;
use crate::supervisor::{Equipment, OutputPipe, StartError, Supervisor, draw_holder, lock_folder, os};

/// How long nobody need come before the first attempt.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long nobody need come between two: whoever keeps the pod for later holds a stream to it.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);

/// What a pod's supervisor has without an attempt.
struct Lobby {
    equipment: Equipment,
    spec: Option<Box<AttemptSpec>>,
    /// Whether it had an attempt before.
    is_used: bool,
}

/// What became of the wait.
enum Turn {
    Wait,
    Leave,
}

/// Serves one attempt after the other, until it is sent away.
pub(crate) fn serve(root: &Path) -> Result<(), StartError> {
    let mut lobby = Lobby::open(root)?;
    while let Some(supervisor) = lobby.receive()? {
        let Some(equipment) = supervisor.run() else { break };
        make_ready(&equipment.dir).map_err(os("make the pod ready again"))?;
        lobby = Lobby {
            equipment,
            spec: None,
            is_used: true,
        };
    }
    Ok(())
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
    fn open(root: &Path) -> Result<Self, StartError> {
        let dir = AttemptDir::in_pod(root);
        make_ready(&dir).map_err(os("make the pod ready"))?;
        let lock = lock_folder(&dir)?;
        let tools = dir.tools().unwrap_or(root).to_owned();
        let equipment = Equipment {
            link: Link::new(UnixListener::bind(dir.socket()).map_err(os("bind the socket"))?)
                .map_err(os("listen on the socket"))?,
            crew: Crew::listen(&tools).map_err(os("listen for the steps"))?,
            output: OutputPipe::open().map_err(os("make a pipe"))?,
            signals: Signals::catch().map_err(os("catch signals"))?,
            holder: holder()?,
            lock,
            dir,
        };
        // Only now, because the steps' containers wait for the program, and then expect the socket.
        install(&tools).map_err(os("offer the program to the steps"))?;
        Ok(Self {
            equipment,
            spec: None,
            is_used: false,
        })
    }

    /// Waits until an attempt is given and a runner is there for each of its containers; none if it is sent away before.
    fn receive(mut self) -> Result<Option<Supervisor>, StartError> {
        let Some(spec) = self.wait().map_err(os("wait for an attempt"))? else {
            self.equipment.crew.dismiss(0);
            return Ok(None);
        };
        self.equipment.crew.close();
        self.equipment.dir.write_spec(&spec)?;
        let mark = format!("{CONTAINER_MARK}{}\n", spec.attempt);
        let mark = self.is_used.then_some(mark);
        Supervisor::in_pod(self.equipment, *spec, mark.as_deref()).map(Some)
    }

    fn wait(&mut self) -> io::Result<Option<Box<AttemptSpec>>> {
        // Somebody may have come while the socket was made ready.
        self.greet();
        loop {
            if let Turn::Leave = self.turn()? {
                return Ok(None);
            }
            let containers = self.spec.as_ref().and_then(|spec| spec.pod.as_ref());
            let containers = containers.map_or(0, |pod| pod.containers);
            if self.spec.is_some() && self.equipment.crew.is_complete(containers) {
                return Ok(self.spec.take());
            }
            let limit = self.limit();
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return Ok(None);
            }
            self.poll(limit)?;
        }
    }

    /// Until when somebody must have come.
    fn limit(&self) -> Option<Instant> {
        let patience = if self.is_used { IDLE_PATIENCE } else { PATIENCE };
        self.equipment.link.alone_since().map(|since| since + patience)
    }

    fn turn(&mut self) -> io::Result<Turn> {
        let equipment = &mut self.equipment;
        equipment.signals.clear();
        if equipment.signals.take_terminate() {
            return Ok(Turn::Leave);
        }
        equipment.crew.admit(equipment.output.writer())?;
        for message in equipment.link.exchange() {
            match message {
                ToAgent::Assign { spec } => {
                    self.spec.get_or_insert(spec);
                }
                ToAgent::File { name, content } => {
                    if bulk::keep(&equipment.dir, &name, &content).is_err() {
                        equipment.link.hang_up();
                    }
                }
                ToAgent::Exit | ToAgent::Leave | ToAgent::Stop { .. } | ToAgent::PodEnds => {
                    return Ok(Turn::Leave);
                }
                ToAgent::Ping => equipment.link.send(&FromAgent::Pong),
                ToAgent::Begin { .. }
                | ToAgent::Go { .. }
                | ToAgent::ReadLog { .. }
                | ToAgent::Look
                | ToAgent::Recycle
                | ToAgent::Unknown => {}
            }
        }
        if equipment.link.accept()? {
            self.greet();
        }
        Ok(Turn::Wait)
    }

    fn greet(&mut self) {
        self.equipment.link.send(&FromAgent::Ready {
            version: PROTOCOL_VERSION,
            holder: self.equipment.holder.clone(),
        });
    }

    fn poll(&self, until: Option<Instant>) -> io::Result<()> {
        let equipment = &self.equipment;
        let (listener, connection) = equipment.link.fds();
        let mut fds = vec![
            PollFd::from_borrowed_fd(equipment.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
        ];
        fds.extend((equipment.crew.fds()).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(connection.map(|(fd, wants)| PollFd::from_borrowed_fd(fd, wants)));
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
