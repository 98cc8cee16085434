//! The image of the supervisor, made of its program when no other is named. Entry type: [`AgentImages`].

use std::{io, path::Path};

use bollard::{body_full, query_parameters::ImportImageOptionsBuilder};
use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OnceCell};

use super::{
    AgentImage, Patience,
    engine::{Engine, is_not_found, told},
    names::hex,
    pull,
};
use crate::{LaunchError, pod::paths};

/// Knows the image's name, and gives it to the engine when that has it not.
pub(super) struct AgentImages {
    source: AgentImage,
    name: OnceCell<String>,
    /// One at a time gives it.
    giving: Mutex<()>,
}

impl AgentImages {
    pub(super) fn new(source: AgentImage) -> Self {
        Self {
            source,
            name: OnceCell::new(),
            giving: Mutex::default(),
        }
    }

    /// The name of the image, which the engine then has.
    ///
    /// # Errors
    /// If the program cannot be read, or the engine has no such image and cannot get it.
    pub(super) async fn ensure(&self, engine: &Engine, patience: &Patience) -> Result<String, LaunchError> {
        match &self.source {
            AgentImage::Named(image) => {
                let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
                pull::ensure(docker, image, patience, |_| {})
                    .await
                    .map_err(|why| LaunchError::Transient { reason: why.text })?;
                Ok(image.clone())
            }
            AgentImage::Program(program) => self.ensure_of_program(engine, program).await,
        }
    }

    async fn ensure_of_program(&self, engine: &Engine, program: &Path) -> Result<String, LaunchError> {
        let name = self
            .name
            .get_or_try_init(|| async { Ok(name_of(&read(program).await?)) })
            .await?;
        let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
        if has(engine, name).await? {
            return Ok(name.clone());
        }
        let _giving = self.giving.lock().await;
        if has(engine, name).await? {
            return Ok(name.clone());
        }
        let bytes = read(program).await?;
        let (image, named) = (name.clone(), name.clone());
        let archive = tokio::task::spawn_blocking(move || archive(&image, &bytes))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| unusable(program, &error))?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        docker
            .import_image(options, body_full(archive.into()), None)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(|error| LaunchError::Transient {
                reason: format!(
                    "the container engine does not take the supervisor's image: {}",
                    told(&error)
                ),
            })?;
        Ok(named)
    }
}

async fn has(engine: &Engine, image: &str) -> Result<bool, LaunchError> {
    let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
    match docker.inspect_image(image).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(engine.explain(&error)),
    }
}

async fn read(program: &Path) -> Result<Vec<u8>, LaunchError> {
    tokio::fs::read(program)
        .await
        .map_err(|error| unusable(program, &error))
}

fn unusable(program: &Path, error: &io::Error) -> LaunchError {
    LaunchError::Terminal {
        reason: format!(
            "the supervisor's program `{}` cannot be used: {error}; scripts/agent-image --program makes it",
            program.display()
        ),
    }
}

/// Another program is another image.
fn name_of(program: &[u8]) -> String {
    let digest = hex(&Sha256::digest(program)[..6]);
    format!(
        "localhost/pipekeeper-agent:{}-{digest}",
        env!("CARGO_PKG_VERSION")
    )
}

/// An image of one file, in the form that engines load.
fn archive(name: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, paths::PROGRAM.trim_start_matches('/'), 0o755, program)?;
    let layer = layer.into_inner()?;
    let config = json!({
        "architecture": architecture(program)?,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": [paths::PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "pipekeeper"}],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, &config_name, 0o644, &config)?;
    append(&mut image, "layer.tar", 0o644, &layer)?;
    append(
        &mut image,
        "manifest.json",
        0o644,
        &serde_json::to_vec(&manifest)?,
    )?;
    image.into_inner()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
    header.set_mode(mode);
    archive.append_data(&mut header, name, bytes)
}

/// What the program was made for, as images call it.
fn architecture(program: &[u8]) -> io::Result<&'static str> {
    match (program.get(..4), program.get(18..20)) {
        (Some(b"\x7fELF"), Some([62, 0])) => Ok("amd64"),
        (Some(b"\x7fELF"), Some([183, 0])) => Ok("arm64"),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no Linux program for amd64 or arm64",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linux_programs_become_images() {
        let mut program = vec![0; 64];
        assert!(archive("a:1", &program).is_err());
        program[..4].copy_from_slice(b"\x7fELF");
        program[18] = 183;
        let image = archive("a:1", &program).unwrap();
        let mut names = Vec::new();
        for entry in tar::Archive::new(image.as_slice()).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        assert_eq!(names[1..], ["layer.tar", "manifest.json"]);
    }
}
