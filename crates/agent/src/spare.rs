//! Waiting, ready and without an attempt: a controller that keeps such spares need not wait for a program to start.
//!
//! Entry function: [`wait`].

use std::os::unix::net::{UnixListener, UnixStream};

use crate::protocol::{AttemptDir, FromAgent, ToAgent, read_frame, write_frame};
use crate::workspace;

/// The folder of the attempt to supervise: `dir` if its spec is there, else the one that the first controller to
/// connect names. None if that one leaves before; the spare's own folder is gone then. The controller hears a
/// [`FromAgent::Pong`] as soon as the folder may be renamed.
pub(crate) fn wait(dir: AttemptDir, listener: &UnixListener) -> std::io::Result<Option<AttemptDir>> {
    if dir.spec().exists() {
        return Ok(Some(dir));
    }
    let (mut leash, _) = listener.accept()?;
    // Whatever is wrong with it is told when an attempt needs it.
    drop(workspace::make_folders(&dir));
    let named = name(&mut leash);
    if named.is_none() {
        // Nobody else can remove it without racing what was made above. A renamed folder is not found.
        drop(workspace::remove(dir.path()));
    }
    Ok(named)
}

/// The folder that the controller names, unless it leaves before. The spare's own name is not used from here on: the
/// folder may be renamed any time.
fn name(leash: &mut UnixStream) -> Option<AttemptDir> {
    write_frame(leash, &FromAgent::Pong).ok()?;
    loop {
        match read_frame(leash) {
            Ok(Some(ToAgent::Begin { dir })) => return Some(AttemptDir::new(dir)),
            Ok(Some(
                ToAgent::Assign { .. }
                | ToAgent::File { .. }
                | ToAgent::ReadLog { .. }
                | ToAgent::Leave
                | ToAgent::Recycle
                | ToAgent::Look
                | ToAgent::Go { .. }
                | ToAgent::Exit
                | ToAgent::Stop { .. }
                | ToAgent::PodEnds
                | ToAgent::Ping
                | ToAgent::Unknown,
            )) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::protocol::AttemptSpec;

    #[test]
    fn it_waits_for_a_name_and_leaves_with_its_controller() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let spare = temp.path().join("spare");
        std::fs::create_dir(&spare).unwrap();
        let dir = AttemptDir::new(spare.clone());

        let mut leash = UnixStream::connect(&socket).unwrap();
        write_frame(&mut leash, &ToAgent::Ping).unwrap();
        write_frame(
            &mut leash,
            &ToAgent::Begin {
                dir: PathBuf::from("/a"),
            },
        )
        .unwrap();
        assert_eq!(wait(dir.clone(), &listener).unwrap(), Some(AttemptDir::new("/a")));
        assert_eq!(read_frame(&mut leash).unwrap(), Some(FromAgent::Pong));

        let gone = UnixStream::connect(&socket).unwrap();
        gone.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(wait(dir.clone(), &listener).unwrap(), None);
        assert!(!spare.exists());

        std::fs::create_dir(&spare).unwrap();
        dir.write_spec(&AttemptSpec::new("r1-n1-a1", "nonce", "/log"))
            .unwrap();
        assert_eq!(wait(dir.clone(), &listener).unwrap(), Some(dir));
    }
}
