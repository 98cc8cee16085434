//! A terminal with somebody at it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    process::{Child, Command},
    sync::mpsc,
    time::Instant,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::support::PATIENCE;

/// A process on a terminal of its own.
pub(crate) struct Pty {
    keyboard: File,
    screen: mpsc::Receiver<Vec<u8>>,
    seen: String,
    child: Child,
}

impl Pty {
    /// Starts a command as the first of a new session that has the terminal.
    pub(crate) fn start(command: &Command) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let far = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let keyboard = File::from(near);
        resize(&keyboard, 100, 30);
        let mut wrapped = Command::new("setsid");
        wrapped
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(command.get_current_dir().unwrap())
            .env_clear();
        for (name, value) in command.get_envs() {
            wrapped.env(name, value.unwrap());
        }
        let child = wrapped
            .env("TERM", "xterm")
            .stdin(far.try_clone().unwrap())
            .stdout(far.try_clone().unwrap())
            .stderr(far)
            .spawn()
            .unwrap();
        let (tell, screen) = mpsc::channel();
        let mut reader = keyboard.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal breaks when nobody has its other end any more.
            while let Ok(count) = reader.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            keyboard,
            screen,
            seen: String::new(),
            child,
        }
    }

    /// Waits for a text after what was waited for before.
    pub(crate) fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{text}` is not on the screen:\n{}", self.seen),
            }
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keyboard, columns, rows);
    }

    /// Whether the terminal repeats what is typed, as it does for whoever did not ask for plain keys.
    pub(crate) fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).unwrap();
        modes.local_modes.contains(LocalModes::ECHO)
    }

    /// The exit code.
    pub(crate) fn end(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}
