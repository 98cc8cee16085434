//! First pipeline files for `pipe init`.

/// What a repository holds, as far as `pipe init` can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectKind {
    /// A `Cargo.toml`.
    Rust,
    /// A `package.json`.
    Node,
    /// A `go.mod`.
    Go,
    /// A `pom.xml`.
    Maven,
    /// A `build.gradle` or `build.gradle.kts`.
    Gradle,
    /// A `pyproject.toml` or `requirements.txt`.
    Python,
    /// A `Makefile`.
    Make,
    /// None of these.
    Other,
}

/// The text of a first pipeline file.
pub fn starter(_kind: ProjectKind, _name: &str) -> String {
    String::new()
}
