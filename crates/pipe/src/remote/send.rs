//! A working tree on its way to a server.

use std::path::Path;

use pipekeeper_agent::archive;
use pipekeeper_model::{Bytes, Name, Sha};
use serde::Deserialize;

use crate::{
    client::{Client, view},
    failure::{Failure, OrFail, chain},
    local::{Place, session::copy_tree},
    term,
};

/// From here on sending takes long enough to be worth a word.
const WORTH_A_WORD: u64 = 4 << 20;

#[derive(Deserialize)]
struct Sent {
    tree: Sha,
}

/// Sends the tree at `root` as git would see it; the id by which the server knows it.
pub(super) async fn send(
    client: &Client,
    place: &Place,
    root: &Path,
    project: &Name,
    subject: &str,
) -> Result<Sha, Failure> {
    let folder = place.source();
    copy_tree(root, &folder).await?;
    let packed = folder.with_extension("tar.zst");
    let made = packed.clone();
    let archive = tokio::task::spawn_blocking(move || archive::pack(&folder, &["**".to_owned()], &made))
        .await
        .or_fail("pack the working tree")?
        .map_err(|error| Failure::usage(format!("failed to pack the working tree: {}", chain(&error))))?;
    for path in &archive.left_out {
        term::warn(format_args!(
            "the link `{}` points outside the tree and is not sent",
            path.display()
        ));
    }
    if archive.bytes >= WORTH_A_WORD {
        term::note(format_args!(
            "sending {} files, {}",
            archive.files,
            Bytes(archive.bytes)
        ));
    }
    let query = [("subject", subject.to_owned())];
    let answer = client
        .post_file(&["projects", project.as_str(), "trees"], &query, &packed)
        .await?;
    let Sent { tree } = view(answer)?;
    Ok(tree)
}
