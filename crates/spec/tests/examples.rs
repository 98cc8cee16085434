//! Every example pipeline, and our own, checks clean and compiles to the graph on record.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use pipekeeper_spec::{
    SourceFile, check,
    document::{Document, Kind, Others, check_documents, document_table},
};

fn pipelines() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["pipelines-examples", "pipelines-examples/demo/.pipe", ".pipe"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_example_checks_clean_and_keeps_its_graph() {
    let mut graphs = String::new();
    let pipelines = pipelines();
    for (path, text) in &pipelines {
        let file = SourceFile { path, text };
        match check(&file) {
            Ok((pipeline, _)) => {
                graphs.push_str(&format!("== {path}\n{}\n", pipeline.graph_text(&BTreeMap::new())))
            }
            Err(problems) => panic!("{}", problems.to_lines(&file)),
        }
    }
    assert!(pipelines.len() >= 9, "only {} examples", pipelines.len());
    insta::assert_snapshot!("examples", graphs);
}

#[test]
fn the_example_documents_are_one_whole_set_of_every_kind() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines-examples/kinds");
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        texts.push((name, fs::read_to_string(&path).unwrap()));
    }
    texts.sort();
    let files: Vec<SourceFile<'_>> = texts
        .iter()
        .map(|(path, text)| SourceFile { path, text })
        .collect();
    // Nothing else is there: what they name is among them.
    let documents = match check_documents(&files, Others::NONE) {
        Ok((documents, _)) => documents,
        Err(found) => {
            let lines = found.iter().zip(&files).map(|(found, file)| found.to_lines(file));
            panic!("{}", lines.collect::<String>());
        }
    };
    let kinds = documents.iter().map(Document::kind).collect::<BTreeSet<Kind>>();
    assert_eq!(kinds, Kind::ALL.iter().copied().collect());
}

/// The section of a kind: its example, and a table that is made from its keys.
fn table_of(kind: Kind) -> String {
    let rows = document_table(kind).into_iter();
    let rows = rows.map(|row| format!("| `{}` | {} | {} |\n", row.path, row.takes, row.help));
    format!("| key | takes | |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_documents_page_shows_every_kind_as_it_is() {
    let page = include_str!("../../../docs/documents.md");
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    let mut wanted = String::new();
    for kind in Kind::ALL {
        let section = sections
            .iter()
            .find(|section| section.starts_with(&format!("{kind}\n")));
        let is_whole = section
            .is_some_and(|section| section.contains("```yaml\nkind: ") && section.contains(&table_of(*kind)));
        if !is_whole {
            wanted.push_str(&format!("## {kind}\n\n{}\n", table_of(*kind)));
        }
    }
    assert!(wanted.is_empty(), "docs/documents.md lacks:\n{wanted}");
    for text in page.split("```yaml\n").skip(1) {
        let text = text.split("```").next().unwrap();
        let file = SourceFile {
            path: "page.yaml",
            text,
        };
        if let Err(found) = check_documents(&[file], Others::Unknown) {
            panic!(
                "{}",
                found
                    .iter()
                    .map(|found| found.to_lines(&file))
                    .collect::<String>()
            );
        }
    }
}

#[test]
fn what_the_language_page_shows_is_valid() {
    let page = include_str!("../../../docs/language.md");
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for text in blocks {
        let file = SourceFile {
            path: ".pipe/page.yaml",
            text,
        };
        match check(&file) {
            Ok((_, warnings)) => assert!(warnings.is_empty(), "{}", warnings.to_lines(&file)),
            Err(problems) => panic!("{}", problems.to_lines(&file)),
        }
    }
}
