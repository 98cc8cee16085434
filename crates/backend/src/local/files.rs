//! The files that a supervisor of this host is given by their paths.

use pipekeeper_agent::protocol::{AttemptSpec, CacheCandidate, CacheSpec, InputSpec, WorkspaceSpec};

use super::{LocalOptions, absolute};
use crate::{
    CacheMount, Launch, SourceInput, artifact_path, blob_path,
    spec::{to_spec, to_values},
};

/// The whole spec of an attempt.
pub(super) fn with_files(launch: &Launch, options: &LocalOptions) -> AttemptSpec {
    let spec = to_spec(launch, absolute(&launch.log));
    let mut env = options.host_env.clone();
    env.extend(spec.env);
    AttemptSpec {
        env,
        workspace: match &launch.source {
            SourceInput::Empty => WorkspaceSpec::Empty,
            SourceInput::Folder(path) => WorkspaceSpec::CopyOf { path: absolute(path) },
            SourceInput::Archive(path) => WorkspaceSpec::Archive { path: absolute(path) },
        },
        inputs: (launch.inputs.iter())
            .map(|input| InputSpec {
                archive: artifact_path(&options.artifacts, &input.digest),
                into: input.into.clone(),
                sha256: input.digest.to_hex(),
            })
            .collect(),
        values: to_values(launch, |digest| blob_path(&options.artifacts, digest)),
        caches: launch.caches.iter().map(to_cache).collect(),
        ..spec
    }
}

fn to_cache(cache: &CacheMount) -> CacheSpec {
    let key = cache
        .exact
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let exact = CacheCandidate {
        path: absolute(&cache.exact),
        exact: true,
    };
    let fallbacks = cache.fallbacks.iter().map(|path| CacheCandidate {
        path: absolute(path),
        exact: false,
    });
    CacheSpec {
        name: cache.name.to_string(),
        key,
        restore: std::iter::once(exact).chain(fallbacks).collect(),
        paths: cache.paths.clone(),
        save_to: cache.save_to.as_deref().map(absolute),
    }
}
