//! Every example pipeline, and our own, checks clean and compiles to the graph on record.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::{fs, path::Path};

use pipekeeper_spec::{SourceFile, check};

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
            Ok((pipeline, _)) => graphs.push_str(&format!("== {path}\n{}\n", pipeline.graph_text())),
            Err(problems) => panic!("{}", problems.to_lines(&file)),
        }
    }
    assert!(pipelines.len() >= 9, "only {} examples", pipelines.len());
    insta::assert_snapshot!("examples", graphs);
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
