//! Reads files of documents: one file, the files of a folder, or standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use pipekeeper_spec::SourceFile;

use crate::failure::{Failure, OrFail};

/// A file of documents that was read.
#[derive(Clone, Debug)]
pub(crate) struct DocumentFile {
    /// What messages call it.
    pub(crate) path: String,
    text: String,
}

impl DocumentFile {
    /// The text as `spec` takes it.
    pub(crate) fn source(&self) -> SourceFile<'_> {
        SourceFile {
            path: &self.path,
            text: &self.text,
        }
    }
}

/// Reads what paths name; `-` is standard input. Links are followed: that is how clusters mount files.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<DocumentFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .or_usage("read standard input")?;
            files.push(file("standard input".to_owned(), bytes)?);
        } else if path.is_dir() {
            for path in files_in(path)? {
                files.push(read_file(&path)?);
            }
        } else {
            files.push(read_file(path)?);
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<DocumentFile, Failure> {
    let bytes = fs::read(path).or_usage(format_args!("read `{}`", path.display()))?;
    file(path.display().to_string(), bytes)
}

fn file(path: String, bytes: Vec<u8>) -> Result<DocumentFile, Failure> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(DocumentFile { path, text }),
        Err(_) => Err(Failure::usage(format!(
            "failed to read `{path}`: it is not UTF-8 text"
        ))),
    }
}

/// The files of a folder itself, in the order of their names.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let what = format!("read `{}`", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).or_usage(&what)? {
        let path = entry.or_usage(&what)?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(
            Failure::usage(format!("there is no `*.yaml` in `{}`", folder.display()))
                .hint("folders in it are not looked into; name each"),
        );
    }
    Ok(files)
}
