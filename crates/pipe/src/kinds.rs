//! Environments from files of documents, for runs and checks without a server (`--kinds`).

use std::{collections::BTreeMap, path::PathBuf};

use pipekeeper_model::Name;
use pipekeeper_spec::{
    SourceFile,
    document::{Body, Environment, Others, check_documents},
};

use crate::{
    documents,
    failure::Failure,
    find::color,
    term::{self, Paint},
};

/// The Environments of files and folders; none if nothing is named.
pub(crate) fn read(paths: &[PathBuf]) -> Result<BTreeMap<Name, Environment>, Failure> {
    let files = documents::read(paths)?;
    let sources: Vec<SourceFile<'_>> = files.iter().map(documents::DocumentFile::source).collect();
    let documents = match check_documents(&sources, Others::Unknown) {
        Ok((documents, _)) => documents,
        Err(found) => {
            for (file, diagnostics) in sources.iter().zip(&found) {
                let rendered = diagnostics.render(file, color(Paint::for_stderr()));
                if !rendered.is_empty() {
                    term::note(rendered.trim_end());
                }
            }
            return Err(Failure::usage("the documents of `--kinds` have errors"));
        }
    };
    let environments = documents.into_iter().filter_map(|document| {
        if let Body::Environment(environment) = document.body {
            Some((document.name, *environment))
        } else {
            None
        }
    });
    Ok(environments.collect())
}

/// The same for a run on this machine: whoever starts it says where its actions run, not their environment.
pub(crate) fn here(paths: &[PathBuf], project: &Name) -> Result<BTreeMap<Name, Environment>, Failure> {
    let here = |(name, environment): (Name, Environment)| {
        let environment = Environment {
            cluster: None,
            ..environment.of_project(project)
        };
        (name, environment)
    };
    Ok(read(paths)?.into_iter().map(here).collect())
}
