//! Hostile text: whatever stands in a file, checking, rendering and planning end without a panic.

use std::collections::BTreeMap;

use pipekeeper_model::{EventKind, Revision, TriggerEvent};
use pipekeeper_spec::{
    Color, PlanRequest, SourceFile, changed_patterns, check,
    document::{Others, check_documents},
};
use proptest::prelude::*;

fn exercise(text: &str) {
    let file = SourceFile { path: "a.yaml", text };
    exercise_documents(&file);
    match check(&file) {
        Ok((pipeline, warnings)) => {
            warnings.render(&file, Color::Always);
            pipeline.graph_text(&BTreeMap::new());
            let event = TriggerEvent {
                kind: EventKind::Manual,
                revision: Revision {
                    repository: "a/b".to_owned(),
                    sha: None,
                    git_ref: None,
                    subject: String::new(),
                },
                schedule: None,
            };
            let plan = pipeline.plan(&PlanRequest {
                event: &event,
                params: &BTreeMap::new(),
                selected: None,
                environments: &BTreeMap::new(),
            });
            if let Ok(plan) = plan {
                changed_patterns(&plan);
            }
        }
        Err(errors) => {
            assert!(errors.has_errors());
            errors.render(&file, Color::Always);
            errors.to_json(&file);
        }
    }
}

fn exercise_documents(file: &SourceFile<'_>) {
    match check_documents(&[*file], Others::NONE) {
        Ok((documents, _)) => {
            for document in documents {
                assert!(document.to_canonical().is_ok());
            }
        }
        Err(found) => {
            for errors in found {
                errors.render(file, Color::Always);
            }
        }
    }
}

/// One document after the other.
fn documents() -> String {
    include_str!("documents.json")
        .trim()
        .trim_matches(['[', ']'])
        .replace("},\n    {", "}\n---\n{")
}

const FULL: &str = include_str!("full.yaml");

/// Pieces that mean something, so that mixtures of them get far.
const PIECES: [&str; 24] = [
    "\n", "  ", "- ", ": ", "{ ", " }", "[", "]", "\"", "'", "|", "\t", "&a ", "*a", "run", "${{ ", " }}",
    "actions", "é", "\r\n", "# ", "~", "needs", "!x ",
];

#[test]
fn more_cells_than_can_be_counted() {
    let axes: Vec<String> = (0..200)
        .map(|n| format!("k{n}: [a, b, c, d, e, f, g, h, i, j]"))
        .collect();
    let action = |name| {
        format!(
            "  - {{ name: {name}, run: x, matrix: {{ {} }} }}\n",
            axes.join(", ")
        )
    };
    let text = format!("actions:\n{}{}", action("one"), action("two"));
    exercise(&text);
    assert!(
        check(&SourceFile {
            path: "a.yaml",
            text: &text
        })
        .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in "\\PC{0,200}") {
        exercise(&text);
    }

    #[test]
    fn arbitrary_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        exercise(&pieces.concat());
        exercise(&format!("actions:\n  - {}", pieces.concat()));
    }

    #[test]
    fn mutated_documents(at in 0..4_000_usize, length in 0_usize..40, piece in prop::sample::select(&PIECES[..])) {
        let full = documents();
        let start = full.floor_char_boundary(at);
        let end = full.floor_char_boundary((at + length).min(full.len())).max(start);
        exercise(&format!("{}{piece}{}", &full[..start], &full[end..]));
    }

    #[test]
    fn mutated_example(at in 0..FULL.len(), length in 0_usize..40, piece in prop::sample::select(&PIECES[..])) {
        let start = FULL.floor_char_boundary(at);
        let end = FULL.floor_char_boundary((at + length).min(FULL.len())).max(start);
        exercise(&format!("{}{piece}{}", &FULL[..start], &FULL[end..]));
    }
}
