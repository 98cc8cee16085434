//! Waiting, ready and without an attempt: a controller that keeps such spares need not wait for a program to start.
//!
//! Entry function: [`wait`].

use std::os::unix::net::UnixListener;

use crate::protocol::{AttemptDir, FromAgent, ToAgent, read_frame, write_frame};
use crate::workspace;

/// The folder of the attempt to supervise: `dir` if its spec is there, else the one that the first controller to
/// connect names; none if that one leaves before. That controller hears a [`FromAgent::Pong`] as soon as the folder
/// may be renamed.
pub(crate) fn wait(dir: AttemptDir, listener: &UnixListener) -> std::io::Result<Option<AttemptDir>> {
    if dir.spec().exists() {
        return Ok(Some(dir));
    }
    let (mut leash, _) = listener.accept()?;
    // Whatever is wrong with it is told when an attempt needs it.
    drop(workspace::make_folders(&dir));
    // From here on nothing is looked up by the old name of the folder.
    write_frame(&mut leash, &FromAgent::Pong).map_err(std::io::Error::other)?;
    loop {
        match read_frame(&mut leash) {
            Ok(Some(ToAgent::Begin { dir })) => return Ok(Some(AttemptDir::new(dir))),
            Ok(Some(
                ToAgent::Go { .. } | ToAgent::Exit | ToAgent::Stop { .. } | ToAgent::Ping | ToAgent::Unknown,
            )) => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use super::*;
    use crate::protocol::AttemptSpec;

    #[test]
    fn it_waits_for_a_name_and_leaves_with_its_controller() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let dir = AttemptDir::new(temp.path());

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

        dir.write_spec(&AttemptSpec::new("r1-n1-a1", "nonce", "/log"))
            .unwrap();
        assert_eq!(wait(dir.clone(), &listener).unwrap(), Some(dir));
    }
}
