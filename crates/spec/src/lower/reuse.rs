//! `reuse:`: whether an earlier success may stand in for an action, and what its inputs may be.

use pipekeeper_model::plan::{Script, SecretTarget, Section, Work};

use super::entries::Entries;
use crate::{codes, shape::join, suggest::did_you_mean, yaml::Node};

/// The facts of a run that a result may depend on; the others differ in every run.
const FACTS: [&str; 5] = [
    "PIPE_EVENT",
    "PIPE_BRANCH",
    "PIPE_TAG",
    "PIPE_SHA",
    "PIPE_REPOSITORY",
];

impl Entries<'_, '_> {
    /// Checks an action's `reuse`.
    pub(super) fn check_reuse(
        &mut self,
        node: &Node,
        path: &str,
        work: &Work,
        on_environment: bool,
        section: Section,
    ) {
        let Some(pair) = node.pair("reuse") else { return };
        let path = join(path, "reuse");
        if section == Section::Finally {
            self.sink
                .error(
                    codes::FINALLY,
                    &path,
                    &pair.key_span,
                    "entries of `finally` run every time",
                )
                .help("remove `reuse`");
        }
        let builds = work
            .steps
            .iter()
            .any(|step| matches!(step.script, Script::Build(_)));
        let acts = [
            (builds, "builds an image"),
            (!work.credentials.is_empty(), "borrows credentials"),
            (on_environment, "works on an environment"),
        ];
        for (_, what) in acts.into_iter().filter(|(holds, _)| *holds) {
            let message = format!("this action {what}, which an earlier run does not do for it");
            self.sink
                .error(codes::REUSE, &path, &pair.key_span, message)
                .help("remove `reuse`");
        }
        if let Some(inputs) = pair.value.pair("inputs") {
            self.check_reused_files(&inputs.value, &join(&path, "inputs"));
        }
        for item in pair.value.get("env").map(Node::items).unwrap_or_default() {
            self.check_reused_variable(item, &join(&path, "env"), work);
        }
    }

    fn check_reused_files(&mut self, inputs: &Node, path: &str) {
        for item in inputs.items() {
            let Some(text) = item.text() else { continue };
            let glob = text.strip_prefix('!').unwrap_or(text);
            let leaves = glob.split('/').any(|part| part == "..");
            if leaves || ["/", "./", "~/"].iter().any(|start| glob.starts_with(start)) {
                let message = format!("no file of the source has a path like `{text}`");
                self.sink
                    .error(codes::BAD_PATH, path, &item.span, message)
                    .help("paths are from the root of the repository, such as `src/**`");
            }
        }
    }

    fn check_reused_variable(&mut self, item: &Node, path: &str, work: &Work) {
        let Some(name) = item.text() else { return };
        let is_secret = work
            .secrets
            .iter()
            .any(|secret| matches!(&secret.target, SecretTarget::Env(env) if env == name));
        if is_secret {
            let message = format!("`{name}` is a secret, and values of secrets do not count");
            self.sink
                .error(codes::REUSE, path, &item.span, message)
                .help("remove it; `--no-reuse` runs the action after the secret has changed");
            return;
        }
        let steps = work.steps.iter().flat_map(|step| step.env.keys());
        let known = work.env.keys().chain(steps).map(String::as_str).chain(FACTS);
        let known: Vec<&str> = known.collect();
        if !known.contains(&name) {
            let help = did_you_mean(name, known)
                .unwrap_or_else(|| format!("set it under `env`, or name one of `{}`", FACTS.join("`, `")));
            self.sink
                .error(
                    codes::REUSE,
                    path,
                    &item.span,
                    format!("the file sets no variable `{name}`"),
                )
                .help(help);
        }
    }
}
