//! Finds pipeline files: `.pipe/*.yaml` in the folder or above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pipekeeper_spec::{Diagnostics, Pipeline, SourceFile, check};

use crate::{
    failure::{Failure, OrFail},
    term,
};

const FOLDER: &str = ".pipe";

/// A pipeline file that was read.
#[derive(Clone, Debug)]
pub(crate) struct PipelineFile {
    /// The folder that holds `.pipe`: what is copied into workspaces.
    pub(crate) root: PathBuf,
    /// The path that messages name, such as `.pipe/web.yaml`.
    pub(crate) path: String,
    /// The text.
    pub(crate) text: String,
}

impl PipelineFile {
    /// Reads a file that messages call `path`.
    fn read(root: &Path, file: &Path) -> Result<Self, Failure> {
        if fs::symlink_metadata(file).is_ok_and(|data| data.is_symlink()) {
            return Err(
                Failure::usage(format!("`{}` is a link, not a file", file.display()))
                    .hint("put the file itself there: a server reads no links"),
            );
        }
        let text = fs::read(file).or_usage(format_args!("read `{}`", file.display()))?;
        let text = String::from_utf8(text).map_err(|_| {
            Failure::usage(format!(
                "failed to read `{}`: it is not UTF-8 text",
                file.display()
            ))
        })?;
        let path = file.strip_prefix(root).unwrap_or(file).display().to_string();
        Ok(Self {
            root: root.to_owned(),
            path,
            text,
        })
    }

    /// Whether it lies where a server looks for pipelines.
    pub(crate) fn is_found_by_servers(&self) -> bool {
        let path = Path::new(&self.path);
        path.parent() == Some(Path::new(FOLDER))
            && path
                .extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml")
    }

    /// The text as `spec` takes it.
    pub(crate) fn source(&self) -> SourceFile<'_> {
        SourceFile {
            path: &self.path,
            text: &self.text,
        }
    }

    /// The checked pipeline; warnings and errors are shown.
    pub(crate) fn check(&self) -> Result<Pipeline, Failure> {
        match check(&self.source()) {
            Ok((pipeline, warnings)) => {
                self.show(&warnings);
                Ok(pipeline)
            }
            Err(errors) => {
                self.show(&errors);
                let count = errors
                    .iter()
                    .filter(|one| one.severity == pipekeeper_spec::Severity::Error)
                    .count();
                Err(Failure::usage(format!(
                    "`{}` has {count} error{}",
                    self.path,
                    if count == 1 { "" } else { "s" }
                ))
                .hint("`pipe explain CODE` tells more about a code"))
            }
        }
    }

    fn show(&self, diagnostics: &Diagnostics) {
        if !diagnostics.is_empty() {
            term::note(
                diagnostics
                    .render(&self.source(), color(term::Paint::for_stderr()))
                    .trim_end(),
            );
        }
    }
}

/// Colours in the words of `spec`.
pub(crate) fn color(paint: term::Paint) -> pipekeeper_spec::Color {
    match paint {
        term::Paint::Always => pipekeeper_spec::Color::Always,
        term::Paint::Never => pipekeeper_spec::Color::Never,
    }
}

/// The pipeline that the user means: a file, a name, or the only one there is.
pub(crate) fn pick(wanted: Option<&str>, from: &Path) -> Result<PipelineFile, Failure> {
    if let Some(path) = wanted.map(Path::new)
        && is_path(path)
    {
        let file = from.join(path);
        return PipelineFile::read(&root_of(&file, from), &file);
    }
    let (root, files) = all(from)?;
    match (wanted, files.as_slice()) {
        (Some(name), files) => by_name(name, &root, files),
        (None, [only]) => PipelineFile::read(&root, only),
        (None, files) => Err(Failure::usage(format!(
            "there are {} pipelines: {}",
            files.len(),
            names(files).join(", ")
        ))
        .hint("name one: `pipe run NAME`")),
    }
}

/// Every pipeline file of the folder or of the nearest one above it that has any.
pub(crate) fn all(from: &Path) -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    from.ancestors()
        .map(|folder| (folder.to_owned(), files_in(&folder.join(FOLDER))))
        .find(|(_, files)| !files.is_empty())
        .ok_or_else(|| {
            Failure::usage(format!(
                "there is no `{FOLDER}/*.yaml` in `{}` or above it",
                from.display()
            ))
            .hint("`pipe init` writes a first one")
        })
}

/// Reads files by their paths, which messages repeat as they were given.
pub(crate) fn read(paths: &[PathBuf], from: &Path) -> Result<Vec<PipelineFile>, Failure> {
    paths
        .iter()
        .map(|path| PipelineFile::read(from, &from.join(path)))
        .collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        })
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    files
}

fn is_path(path: &Path) -> bool {
    path.components().count() > 1
        || path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn root_of(file: &Path, from: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(from);
    match (parent.file_name(), parent.parent()) {
        (Some(name), Some(above)) if name == FOLDER => above.to_owned(),
        (Some(_) | None, _) => from.to_owned(),
    }
}

fn by_name(name: &str, root: &Path, files: &[PathBuf]) -> Result<PipelineFile, Failure> {
    if let Some(file) = files
        .iter()
        .find(|file| file.file_stem().is_some_and(|stem| stem == name))
    {
        return PipelineFile::read(root, file);
    }
    for file in files {
        let read = PipelineFile::read(root, file)?;
        if check(&read.source()).is_ok_and(|(pipeline, _)| pipeline.name().as_str() == name) {
            return Ok(read);
        }
    }
    Err(Failure::usage(format!("there is no pipeline `{name}`"))
        .hint(format!("there is {}", names(files).join(", "))))
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .filter_map(|file| Some(format!("`{}`", file.file_stem()?.to_string_lossy())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::pick;
    use crate::failure::Exit;

    const FILE: &str = "name: other\non: { manual: true }\nactions:\n  - { name: a, run: 'true' }\n";

    #[test]
    fn the_only_pipeline_is_found_from_below() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".pipe")).unwrap();
        fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        fs::write(dir.path().join(".pipe/web.yaml"), FILE).unwrap();
        let found = pick(None, &dir.path().join("deep/er")).unwrap();
        assert_eq!(found.path, ".pipe/web.yaml");
        assert_eq!(found.root, dir.path());
    }

    #[test]
    fn several_pipelines_want_a_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".pipe")).unwrap();
        fs::write(dir.path().join(".pipe/a.yaml"), FILE).unwrap();
        fs::write(dir.path().join(".pipe/b.yml"), FILE).unwrap();
        let error = pick(None, dir.path()).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert_eq!(error.message, "there are 2 pipelines: `a`, `b`");
        assert_eq!(pick(Some("b"), dir.path()).unwrap().path, ".pipe/b.yml");
        assert_eq!(
            pick(Some(".pipe/a.yaml"), dir.path()).unwrap().path,
            ".pipe/a.yaml"
        );
        assert!(pick(Some("c"), dir.path()).is_err());
    }
}
