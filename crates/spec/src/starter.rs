//! First pipeline files for `pipe init`: short, checked, and worth keeping. Entry: [`starter`].

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

impl ProjectKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Rust,
        Self::Node,
        Self::Go,
        Self::Maven,
        Self::Gradle,
        Self::Python,
        Self::Make,
        Self::Other,
    ];
}

/// The text of a first pipeline file. A name that cannot be one is left to the file's name.
pub fn starter(kind: ProjectKind, name: &str) -> String {
    let name = match name.parse::<pipekeeper_model::Name>() {
        Ok(name) => format!("name: {name}\n"),
        Err(_) => String::new(),
    };
    let body = match kind {
        ProjectKind::Rust => RUST,
        ProjectKind::Node => NODE,
        ProjectKind::Go => GO,
        ProjectKind::Maven => MAVEN,
        ProjectKind::Gradle => GRADLE,
        ProjectKind::Python => PYTHON,
        ProjectKind::Make => MAKE,
        ProjectKind::Other => OTHER,
    };
    format!("{HEAD}{name}{ON}{body}")
}

const HEAD: &str = "\
# Run it here with `pipe run`, check it with `pipe check`.
";

const ON: &str = "\
on:
  push: { branches: [\"**\"] }
  tag: [\"v*\"]
  manual: true

";

const RUST: &str = "\
caches:
  cargo:
    paths: [~/.cargo/registry, target]
    key: { files: [Cargo.lock] }

actions:
  - parallel:
      - name: lint
        cache: [cargo]
        run: |
          cargo fmt --check
          cargo clippy --all-targets -- -D warnings
      - name: test
        cache: [cargo]
        run: cargo test
  - name: build
    cache: [cargo]
    run: cargo build --release
    if: branch == \"main\" || tag != \"\"
";

const NODE: &str = "\
caches:
  npm:
    paths: [~/.npm]
    key: { files: [package-lock.json] }

actions:
  - name: test
    cache: [npm]
    run: |
      npm ci
      npm run lint --if-present
      npm test
  - name: build
    cache: [npm]
    run: |
      npm ci
      npm run build --if-present
    if: branch == \"main\" || tag != \"\"
";

const GO: &str = "\
caches:
  go:
    paths: [~/go/pkg/mod, ~/.cache/go-build]
    key: { files: [go.sum] }

actions:
  - parallel:
      - { name: vet, cache: [go], run: go vet ./... }
      - { name: test, cache: [go], run: go test ./... }
  - name: build
    cache: [go]
    run: go build ./...
";

const MAVEN: &str = "\
caches:
  maven:
    paths: [~/.m2/repository]
    key: { files: [\"**/pom.xml\"] }

actions:
  - name: verify
    cache: [maven]
    run: mvn --batch-mode verify
    reports: { junit: \"**/target/surefire-reports/*.xml\" }
    timeout: 30m
";

const GRADLE: &str = "\
caches:
  gradle:
    paths: [~/.gradle/caches, ~/.gradle/wrapper]
    key: { files: [\"**/*.gradle*\", \"gradle/wrapper/gradle-wrapper.properties\"] }

actions:
  - name: build
    cache: [gradle]
    run: ./gradlew --no-daemon build
    reports: { junit: \"**/build/test-results/test/*.xml\" }
    timeout: 30m
";

const PYTHON: &str = "\
caches:
  pip:
    paths: [~/.cache/pip]
    key: { files: [\"pyproject.toml\", \"requirements*.txt\"] }

actions:
  - name: test
    cache: [pip]
    run: |
      python3 -m venv .venv
      . .venv/bin/activate
      if [ -f requirements.txt ]; then pip install -r requirements.txt; else pip install .; fi
      pip install pytest
      pytest --junit-xml=report.xml
    reports: { junit: report.xml }
";

const MAKE: &str = "\
actions:
  - { name: build, run: make }
  - { name: test, run: make test }
";

const OTHER: &str = "\
actions:
  - name: hello
    run: |
      echo \"replace this with the commands that build and test the project\"
      ls
";
