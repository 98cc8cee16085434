//! The grammar of `$PIPE_OUTPUT`: `key=value` lines, and `key<<END` for values of several lines.
//!
//! Entry function: [`parse`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::protocol::{LargeOutput, MAX_OUTPUT_BYTES, MAX_OUTPUTS};

/// Bytes that one attempt may put out in values that are no files.
const MAX_INLINE: usize = 1 << 20;
/// A value of more bytes becomes a file.
pub(crate) const LARGE: usize = 64 << 10;

/// Why an output file is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("outputs are larger than 64 MiB; keep more as an artifact")]
    TooLarge,
    #[error("outputs of up to 64 KiB have more than 1 MiB together; keep them as an artifact")]
    TooManyBytes,
    #[error("more than {MAX_OUTPUTS} outputs")]
    TooMany,
    #[error("the output file is not UTF-8")]
    NotText,
    #[error("line {line} of the output file: expected `key=value` or `key<<END`, found `{found}`")]
    NoPair { line: usize, found: String },
    #[error(
        "line {line} of the output file: `{key}` is no name of an output; use letters, digits, `_` and `-`"
    )]
    BadKey { line: usize, key: String },
    #[error("line {line} of the output file: `{key}<<{end}` has no closing line `{end}`")]
    Open { line: usize, key: String, end: String },
}

/// Adds the outputs of one file to those of the attempt; the last value of a key counts.
pub(crate) fn parse(file: &[u8], outputs: &mut BTreeMap<String, String>) -> Result<(), OutputError> {
    let text = std::str::from_utf8(file).map_err(|_| OutputError::NotText)?;
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) = pair(line, number, &mut lines)?;
        outputs.insert(key, value);
    }
    let sizes = || outputs.iter().map(|(key, value)| key.len() + value.len());
    let bytes: usize = sizes().sum();
    let inline: usize = sizes().filter(|size| *size <= LARGE).sum();
    if outputs.len() > MAX_OUTPUTS {
        Err(OutputError::TooMany)
    } else if u64::try_from(bytes).is_ok_and(|bytes| bytes > MAX_OUTPUT_BYTES) {
        Err(OutputError::TooLarge)
    } else if inline > MAX_INLINE {
        Err(OutputError::TooManyBytes)
    } else {
        Ok(())
    }
}

fn pair<'a>(
    line: &str,
    number: usize,
    lines: &mut impl Iterator<Item = (&'a str, usize)>,
) -> Result<(String, String), OutputError> {
    let equals = line.find('=').unwrap_or(line.len());
    let heredoc = line.split_once("<<").filter(|(key, _)| key.len() < equals);
    if let Some((key, end)) = heredoc {
        let key = checked_key(key, number)?;
        let end = end.trim();
        let mut value: Vec<&str> = Vec::new();
        for (line, _) in lines {
            if line == end {
                return Ok((key, value.join("\n")));
            }
            value.push(line);
        }
        return Err(OutputError::Open {
            line: number,
            key,
            end: end.to_owned(),
        });
    }
    let (key, value) = line.split_once('=').ok_or_else(|| OutputError::NoPair {
        line: number,
        found: line.chars().take(60).collect(),
    })?;
    Ok((checked_key(key, number)?, value.to_owned()))
}

/// Whether a text may be the name of an output: letters, digits, `_` and `-`, the first no digit and no `-`.
pub fn is_output_key(key: &str) -> bool {
    let mut characters = key.chars();
    let first = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    first && characters.all(|next| next.is_ascii_alphanumeric() || next == '_' || next == '-')
}

/// Moves the values that are too large to be passed around into files of a folder, by their keys.
pub(crate) fn split(
    outputs: BTreeMap<String, String>,
    folder: &Path,
) -> io::Result<(BTreeMap<String, String>, BTreeMap<String, LargeOutput>)> {
    let (large, small): (BTreeMap<_, _>, BTreeMap<_, _>) =
        outputs.into_iter().partition(|(_, value)| value.len() > LARGE);
    if !large.is_empty() {
        fs::create_dir_all(folder)?;
    }
    let large = large.into_iter().map(|(key, value)| {
        fs::write(folder.join(&key), &value)?;
        let output = LargeOutput {
            sha256: hex::encode(Sha256::digest(value.as_bytes())),
            bytes: value.len() as u64,
        };
        Ok((key, output))
    });
    Ok((small, large.collect::<io::Result<_>>()?))
}

fn checked_key(key: &str, line: usize) -> Result<String, OutputError> {
    if is_output_key(key) {
        Ok(key.to_owned())
    } else {
        Err(OutputError::BadKey {
            line,
            key: key.chars().take(60).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<BTreeMap<String, String>, OutputError> {
        let mut outputs = BTreeMap::new();
        parse(file.as_bytes(), &mut outputs).map(|()| outputs)
    }

    #[test]
    fn pairs_and_heredocs_are_read() {
        let outputs = read("a=1\r\n\nb-c_2=x=y<<z\ntext<<END\none=1\n\n two\nEND\na=2").unwrap();
        let expected = [("a", "2"), ("b-c_2", "x=y<<z"), ("text", "one=1\n\n two")];
        assert_eq!(
            outputs,
            expected
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        );
        assert_eq!(read("").unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_is_malformed_names_its_line() {
        let found = "no pair".to_owned();
        assert_eq!(read("a=1\nno pair"), Err(OutputError::NoPair { line: 2, found }));
        assert_eq!(
            read("1a=1"),
            Err(OutputError::BadKey {
                line: 1,
                key: "1a".into()
            })
        );
        assert_eq!(
            read("a b=1"),
            Err(OutputError::BadKey {
                line: 1,
                key: "a b".into()
            })
        );
        let open = OutputError::Open {
            line: 2,
            key: "k".into(),
            end: "END".into(),
        };
        assert_eq!(read("a=1\nk<<END\nEND \n"), Err(open));
        assert_eq!(parse(b"a=\xff", &mut BTreeMap::new()), Err(OutputError::NotText));
    }

    #[test]
    fn limits_hold() {
        let many: String = (0..257).map(|number| format!("k{number}=\n")).collect();
        assert_eq!(read(&many), Err(OutputError::TooMany));
        assert_eq!(
            read(&format!("k={}", "x".repeat(64 << 20))),
            Err(OutputError::TooLarge)
        );
        let crowd: String = (0..20)
            .map(|number| format!("k{number}={}\n", "x".repeat(LARGE - 10)))
            .collect();
        assert_eq!(read(&crowd), Err(OutputError::TooManyBytes));
        let large: String = (0..20)
            .map(|number| format!("k{number}={}\n", "x".repeat(LARGE + 1)))
            .collect();
        assert_eq!(read(&large).unwrap().len(), 20);
    }

    #[test]
    fn large_values_become_files() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("outputs");
        let (small, large) = split(read("a=1").unwrap(), &place).unwrap();
        assert_eq!((small.len(), large.len(), place.exists()), (1, 0, false));
        let text = format!("a=1\nbig={}\nedge={}", "ü".repeat(LARGE), "x".repeat(LARGE));
        let (small, large) = split(read(&text).unwrap(), &place).unwrap();
        assert_eq!(small.keys().collect::<Vec<_>>(), ["a", "edge"]);
        assert_eq!(large["big"].bytes, 2 * LARGE as u64);
        assert_eq!(fs::read_to_string(place.join("big")).unwrap(), "ü".repeat(LARGE));
    }
}
