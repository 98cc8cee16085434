//! Files into and out of a pod, on streams of their own. Entry functions: [`put`] and [`get`].
//!
//! ```text
//! put:  ▶ {"name":"source.tar","bytes":7}   ◀ {"want":true}   ▶ seven bytes   ◀ {"done":true}   … until the stream ends
//! get:  ▶ {"name":"artifacts/web.tar.zst"}  ◀ {"bytes":9}     ◀ nine bytes                      … until the stream ends
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::archive::clean;
use crate::protocol::{Answer, AttemptDir, Offer, Wanted, read_frame, write_frame};

/// Takes files into the folder of incoming ones; each appears whole or not at all.
pub(crate) fn put(dir: &AttemptDir) -> ExitCode {
    exit(take_files(
        &dir.incoming(),
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
    ))
}

/// Gives files of the attempt's folder away.
pub(crate) fn get(dir: &AttemptDir) -> ExitCode {
    exit(give_files(
        dir.path(),
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
    ))
}

/// Keeps a file that came on the control stream among the incoming ones.
pub(crate) fn keep(dir: &AttemptDir, name: &str, content: &str) -> io::Result<()> {
    let target = beneath(&dir.incoming(), name)?;
    let bytes = hex::decode(content).map_err(io::Error::other)?;
    let temporary = dir.incoming().join(format!(".{name}-control"));
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, target)
}

fn exit(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "pipekeeper: files do not pass: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn take_files(folder: &Path, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    while let Some(Offer { name, bytes }) = read_frame(from).map_err(io::Error::other)? {
        let target = beneath(folder, &name)?;
        if fs::metadata(&target).is_ok_and(|metadata| metadata.len() == bytes) {
            write_frame(to, &Answer { yes: false }).map_err(io::Error::other)?;
            continue;
        }
        write_frame(to, &Answer { yes: true }).map_err(io::Error::other)?;
        // Two servers may send the same file at once.
        let temporary = folder.join(format!(".{name}-{}", std::process::id()));
        let mut file = File::create(&temporary)?;
        if io::copy(&mut from.take(bytes), &mut file)? < bytes {
            drop(fs::remove_file(&temporary));
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fs::rename(&temporary, &target)?;
        write_frame(to, &Answer { yes: true }).map_err(io::Error::other)?;
    }
    Ok(())
}

fn give_files(folder: &Path, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    while let Some(Wanted { name }) = read_frame(from).map_err(io::Error::other)? {
        let path = beneath(folder, &name)?;
        let mut file = File::open(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))?;
        let bytes = file.metadata()?.len();
        write_frame(to, &Offer { name, bytes }).map_err(io::Error::other)?;
        io::copy(&mut Read::by_ref(&mut file).take(bytes), to)?;
        to.flush()?;
    }
    Ok(())
}

fn beneath(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let clean = clean(Path::new(name)).map_err(io::Error::other)?;
    Ok(folder.join(clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_pass_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let offer = Offer {
            name: "source.tar".into(),
            bytes: 3,
        };
        let mut sent = Vec::new();
        write_frame(&mut sent, &offer).unwrap();
        sent.extend(b"abc");
        write_frame(&mut sent, &offer).unwrap();
        let mut answers = Vec::new();
        take_files(folder.path(), &mut sent.as_slice(), &mut answers).unwrap();
        let mut answers = answers.as_slice();
        let mut next = || read_frame::<Answer>(&mut answers).unwrap().unwrap().yes;
        assert_eq!([next(), next(), next()], [true, true, false]);

        let mut wanted = Vec::new();
        write_frame(
            &mut wanted,
            &Wanted {
                name: "source.tar".into(),
            },
        )
        .unwrap();
        let mut given = Vec::new();
        give_files(folder.path(), &mut wanted.as_slice(), &mut given).unwrap();
        let mut given = given.as_slice();
        assert_eq!(read_frame::<Offer>(&mut given).unwrap().unwrap(), offer);
        assert_eq!(given, b"abc");
    }

    #[test]
    fn half_a_file_and_a_file_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut cut = Vec::new();
        write_frame(
            &mut cut,
            &Offer {
                name: "a".into(),
                bytes: 3,
            },
        )
        .unwrap();
        cut.extend(b"ab");
        assert!(take_files(folder.path(), &mut cut.as_slice(), &mut Vec::new()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for name in ["../a", "/etc/passwd", "a/../../b"] {
            let mut bad = Vec::new();
            write_frame(
                &mut bad,
                &Offer {
                    name: name.into(),
                    bytes: 0,
                },
            )
            .unwrap();
            assert!(
                take_files(folder.path(), &mut bad.as_slice(), &mut Vec::new()).is_err(),
                "{name}"
            );
            let mut bad = Vec::new();
            write_frame(&mut bad, &Wanted { name: name.into() }).unwrap();
            assert!(
                give_files(folder.path(), &mut bad.as_slice(), &mut Vec::new()).is_err(),
                "{name}"
            );
        }
    }
}
