//! What entries name: other entries, artifacts, caches; and the axes of their matrix.

use std::collections::BTreeSet;

use pipekeeper_model::{Name, plan::Section};

use super::{entries::Entries, name_of, text, texts};
use crate::{
    codes,
    definition::{FixedText, Target},
    grammar::Kinds,
    shape::join,
    suggest::did_you_mean,
    yaml::Node,
};

/// The most cells of one matrix.
const MAX_CELLS: usize = 256;

impl Entries<'_, '_> {
    pub(super) fn needs(&mut self, node: &Node, path: &str, section: Section) -> Option<Vec<Target>> {
        let needs = node.get("needs")?;
        let mut targets = Vec::new();
        for need in needs.items() {
            let Some(name) = need.text() else { continue };
            let path = join(path, "needs");
            let Some(target) = self.roster.names.get(name).copied() else {
                let known = self.roster.names.keys().map(String::as_str);
                let help = did_you_mean(name, known);
                self.sink
                    .error(
                        codes::UNKNOWN_NEED,
                        &path,
                        &need.span,
                        format!("no entry is called `{name}`"),
                    )
                    .maybe_help(help);
                continue;
            };
            if self.is_in(target, section) {
                targets.push(target);
            } else {
                self.report_across(&path, need, name);
            }
        }
        Some(targets)
    }

    fn is_in(&self, target: Target, section: Section) -> bool {
        self.roster
            .listed(target)
            .is_none_or(|listed| listed.section == section)
    }

    fn report_across(&mut self, path: &str, node: &Node, name: &str) {
        let message = format!("`{name}` stands on the other side of `finally`");
        self.sink
            .error(codes::FINALLY, path, &node.span, message)
            .help("entries of `finally` start after all others have ended, and nothing waits for them");
    }

    pub(super) fn uses(&mut self, node: &Node, path: &str, section: Section) -> Vec<(usize, Name)> {
        let Some(list) = node.get("use") else {
            return Vec::new();
        };
        let path = join(path, "use");
        let mut uses = Vec::new();
        for item in list.items() {
            let Some(text) = item.text() else { continue };
            match self.find_artifact(text) {
                Ok((leaf, _)) if section == Section::Main && !self.is_in(Target::Leaf(leaf), section) => {
                    self.report_across(&path, item, text);
                }
                Ok(found) => uses.push(found),
                Err((message, help)) => {
                    self.sink
                        .error(codes::UNKNOWN_ARTIFACT, &path, &item.span, message)
                        .maybe_help(help);
                }
            }
        }
        uses
    }

    /// Names may hold dots, so every split is tried.
    fn find_artifact(&self, text: &str) -> Result<(usize, Name), (String, Option<String>)> {
        let splits = text
            .match_indices('.')
            .filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + 1..)?)));
        let mut nearest = None;
        for (action, artifact) in splits {
            let Some(Target::Leaf(index)) = self.roster.names.get(action) else {
                nearest =
                    nearest.or_else(|| did_you_mean(action, self.roster.names.keys().map(String::as_str)));
                continue;
            };
            let listed = self.roster.leaves.get(*index);
            let known = listed
                .map(|listed| listed.artifacts.as_slice())
                .unwrap_or_default();
            if let Some(name) = name_of(artifact).filter(|_| known.iter().any(|one| one == artifact)) {
                return Ok((*index, name));
            }
            let help = match did_you_mean(artifact, known.iter().map(String::as_str)) {
                None if known.is_empty() => format!("add `artifacts: {{ {artifact}: PATH }}` to `{action}`"),
                None => format!("it makes `{}`", known.join("`, `")),
                Some(help) => help,
            };
            return Err((format!("`{action}` makes no artifact `{artifact}`"), Some(help)));
        }
        let help = nearest.unwrap_or_else(|| "write `ACTION.ARTIFACT`".to_owned());
        Err((format!("`{text}` names no artifact of an action"), Some(help)))
    }

    pub(super) fn check_caches(&mut self, node: &Node, path: &str) {
        for item in node.get("cache").map(Node::items).unwrap_or_default() {
            let Some(name) = item.text() else { continue };
            if !self.header.cache_names.iter().any(|known| known == name) {
                let known = self.header.cache_names.iter().map(String::as_str);
                let help = did_you_mean(name, known)
                    .unwrap_or_else(|| "define it under `caches:` of the file".to_owned());
                self.sink
                    .error(
                        codes::UNKNOWN_CACHE,
                        &join(path, "cache"),
                        &item.span,
                        format!("no cache is called `{name}`"),
                    )
                    .help(help);
            }
        }
    }

    pub(super) fn check_promotion(&mut self, node: &Node, kind: Kinds, path: &str) {
        if kind == Kinds::PROMOTE
            && !self.roster.builds
            && node.get("images").is_none()
            && let Some(pair) = node.pair("promote")
        {
            self.sink
                .error(
                    codes::NOTHING_BUILT,
                    &join(path, "promote"),
                    &pair.key_span,
                    "there is nothing to promote: no entry builds an image",
                )
                .help("add a `build`, or say which with `images:`");
        }
    }

    /// How long an entry may take, with its key path: of a gate, how long it stays open, which may stand in two places.
    pub(super) fn time_limit(&mut self, node: &Node, path: &str) -> Option<FixedText> {
        let expires = node.get("approve").and_then(|approve| approve.pair("expires"));
        if let (Some(pair), Some(_)) = (expires, node.get("timeout")) {
            let message = "`expires` is another word for the gate's `timeout`, which stands here too";
            self.sink
                .error(
                    codes::KEYS_TOGETHER,
                    &join(path, "approve.expires"),
                    &pair.key_span,
                    message,
                )
                .help("keep one of them");
        }
        let (text, key) = match expires {
            Some(pair) => (pair.value.text()?.to_owned(), "approve.expires"),
            None => (text(node, "timeout")?, "timeout"),
        };
        Some(FixedText {
            text,
            path: join(path, key),
        })
    }

    pub(super) fn matrix(&mut self, node: &Node, path: &str) -> Vec<(Name, Vec<String>)> {
        let Some(pair) = node.pair("matrix") else {
            return Vec::new();
        };
        let path = join(path, "matrix");
        let mut axes = Vec::new();
        let mut cells = 1_usize;
        for axis in pair.value.pairs() {
            let values = texts(Some(&axis.value));
            let mut seen = BTreeSet::new();
            for item in axis.value.items() {
                let again = item.text().filter(|text| !seen.insert((*text).to_owned()));
                if let Some(text) = again {
                    let message = format!("the axis `{}` has `{text}` twice", axis.key);
                    self.sink
                        .error(codes::MATRIX, &join(&path, &axis.key), &item.span, message);
                }
            }
            cells = cells.saturating_mul(values.len().max(1));
            axes.extend(name_of(&axis.key).map(|name| (name, values)));
        }
        if cells > MAX_CELLS {
            let message = format!("the matrix has {cells} cells, and may have {MAX_CELLS}");
            self.sink.error(codes::MATRIX, &path, &pair.key_span, message);
        } else if pair.value.pairs().is_empty() && !pair.value.is_null() {
            self.sink
                .error(codes::MATRIX, &path, &pair.key_span, "the matrix has no axes")
                .help("write `matrix: { db: [sqlite, postgres] }`, or remove it");
        }
        axes
    }
}
