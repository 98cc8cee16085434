//! The projects that a server knows, as its administrator wrote them down.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use pipekeeper_forge::ForgeKind;
use pipekeeper_model::{GitRef, Name};
use pipekeeper_source::Repository;

/// One project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: Name,
    /// The kind of its forge.
    pub forge: ForgeKind,
    /// Its repository.
    pub repository: Repository,
    /// Whether its code may run on the server's own machine.
    pub trusted: bool,
    /// The branch that a run without a revision is made of.
    pub default_branch: String,
    /// Protected branches.
    pub protected_branches: Patterns,
    /// Protected tags.
    pub protected_tags: Patterns,
}

impl Project {
    /// Whether a ref is protected: its runs stand side by side and their caches are trusted.
    pub fn protects(&self, git_ref: &GitRef) -> bool {
        match git_ref {
            GitRef::Branch(name) => self.protected_branches.admit(name),
            GitRef::Tag(name) => self.protected_tags.admit(name),
        }
    }
}

/// All projects, by name.
#[derive(Clone, Debug, Default)]
pub struct Projects(BTreeMap<Name, Project>);

impl Projects {
    /// The projects of a configuration.
    pub fn new(projects: impl IntoIterator<Item = Project>) -> Self {
        Self(
            projects
                .into_iter()
                .map(|project| (project.name.clone(), project))
                .collect(),
        )
    }

    /// The project of this name.
    pub fn get(&self, name: &Name) -> Option<&Project> {
        self.0.get(name)
    }
}

/// Globs over names or paths, some of them excluding (`!docs/**`). None at all match nothing.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    included: GlobSet,
    excluded: GlobSet,
}

impl Patterns {
    /// Compiles patterns; one that does not compile matches nothing.
    pub fn new(texts: &[String]) -> Self {
        let (mut included, mut excluded) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut only_excludes = !texts.is_empty();
        for text in texts {
            let (set, glob) = match text.strip_prefix('!') {
                Some(rest) => (&mut excluded, rest),
                None => {
                    only_excludes = false;
                    (&mut included, text.as_str())
                }
            };
            let compiled = GlobBuilder::new(glob)
                .literal_separator(true)
                .backslash_escape(true)
                .build();
            if let Ok(compiled) = compiled {
                set.add(compiled);
            }
        }
        if only_excludes && let Ok(everything) = GlobBuilder::new("**").build() {
            included.add(everything);
        }
        Self {
            included: included.build().unwrap_or_default(),
            excluded: excluded.build().unwrap_or_default(),
        }
    }

    /// Whether some pattern matches and no excluding one does.
    pub fn admit(&self, text: &str) -> bool {
        self.included.is_match(text) && !self.excluded.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_star_stays_within_a_part_and_exclusions_win() {
        assert!(patterns(&["release/*"]).admit("release/1"));
        assert!(!patterns(&["release/*"]).admit("release/1/x"));
        assert!(patterns(&["src/**"]).admit("src/a/b.rs"));
        assert!(!patterns(&["src/**", "!src/gen/**"]).admit("src/gen/x.rs"));
        assert!(patterns(&["!docs/**"]).admit("src/x.rs"));
        assert!(!patterns(&[]).admit("anything"));
    }
}
