//! Globs that admit names and paths.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

/// Globs, some of them excluding (`!docs/**`). None at all admits everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Patterns {
    texts: Vec<String>,
    included: Option<GlobSet>,
    excluded: GlobSet,
}

impl Patterns {
    /// Compiles patterns; those that do not compile are left out, the check has refused them.
    pub fn new(texts: Vec<String>) -> Self {
        let (mut included, mut excluded) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut has_included = false;
        for text in &texts {
            let (builder, glob) = match text.strip_prefix('!') {
                Some(rest) => (&mut excluded, rest),
                None => {
                    has_included = true;
                    (&mut included, text.as_str())
                }
            };
            if let Ok(glob) = compile(glob) {
                builder.add(glob);
            }
        }
        Self {
            texts,
            included: has_included.then(|| included.build().unwrap_or_default()),
            excluded: excluded.build().unwrap_or_default(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether some including pattern matches (or there is none) and no excluding one does.
    pub fn admit(&self, text: &str) -> bool {
        self.included.as_ref().is_none_or(|set| set.is_match(text)) && !self.excluded.is_match(text)
    }

    /// They, for messages.
    pub fn text(&self) -> String {
        format!("`{}`", self.texts.join("`, `"))
    }
}

/// Their order means nothing.
impl From<Vec<String>> for Patterns {
    fn from(mut texts: Vec<String>) -> Self {
        texts.sort();
        texts.dedup();
        Self::new(texts)
    }
}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Self {
        patterns.texts
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

/// Whether a text is a glob; what is wrong with it if not.
pub fn check_glob(text: &str) -> Result<(), String> {
    compile(text).map(drop).map_err(|error| error.kind().to_string())
}

/// Compiles one glob: `*` stays within a path's part, `**` does not.
fn compile(text: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
}
