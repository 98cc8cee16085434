//! `pipe init`: looks at the folder and writes a first pipeline file, checked before it is written.

use std::{fs, path::Path};

use clap::Args;
use pipekeeper_model::Name;
use pipekeeper_spec::{ProjectKind, SourceFile, starter};

use super::working_folder;
use crate::{
    failure::{Exit, Failure, OrFail},
    folders, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The pipeline's name; by default the folder's
    #[arg(long)]
    name: Option<Name>,
}

const MARKS: [(&str, ProjectKind); 9] = [
    ("Cargo.toml", ProjectKind::Rust),
    ("go.mod", ProjectKind::Go),
    ("pom.xml", ProjectKind::Maven),
    ("build.gradle", ProjectKind::Gradle),
    ("build.gradle.kts", ProjectKind::Gradle),
    ("package.json", ProjectKind::Node),
    ("pyproject.toml", ProjectKind::Python),
    ("requirements.txt", ProjectKind::Python),
    ("Makefile", ProjectKind::Make),
];

impl Init {
    /// Writes the file.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let folder = working_folder()?;
        let name = match &self.name {
            Some(name) => name.as_str().to_owned(),
            None => name_of(&folder),
        };
        let (mark, kind) = detect(&folder);
        let path = format!(".pipe/{name}.yaml");
        let text = starter(kind, &name);
        let file = SourceFile {
            path: &path,
            text: &text,
        };
        if pipekeeper_spec::check(&file).is_err() {
            return Err(Failure::ours(format!("the file made for `{name}` is wrong")));
        }
        fs::create_dir_all(folder.join(".pipe")).or_usage("make the folder `.pipe`")?;
        if !folders::write_new(&folder.join(&path), &text).or_usage(format_args!("write `{path}`"))? {
            return Err(Failure::usage(format!("`{path}` is there already"))
                .hint("give another `--name`, or edit the file and run `pipe check`"));
        }
        term::note(match mark {
            Some(mark) => format!("found `{mark}`"),
            None => "found nothing that names a tool; edit the commands".to_owned(),
        });
        term::say(format_args!("wrote {path}"));
        term::note("next: `pipe check`, then `pipe run`");
        Ok(Exit::Done)
    }
}

fn detect(folder: &Path) -> (Option<&'static str>, ProjectKind) {
    MARKS
        .into_iter()
        .find(|(mark, _)| folder.join(mark).is_file())
        .map_or((None, ProjectKind::Other), |(mark, kind)| (Some(mark), kind))
}

/// The folder's name in the grammar of names.
fn name_of(folder: &Path) -> String {
    let last = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let safe: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name: String = safe.trim_matches(['-', '.', '_']).chars().take(63).collect();
    if name.parse::<Name>().is_ok() {
        name
    } else {
        "main".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::name_of;

    #[test]
    fn any_folder_gives_a_name() {
        assert_eq!(name_of(Path::new("/x/My Shop")), "my-shop");
        assert_eq!(name_of(Path::new("/x/.dot")), "dot");
        assert_eq!(name_of(Path::new("/x/日本")), "main");
        assert_eq!(name_of(Path::new("/")), "main");
    }
}
