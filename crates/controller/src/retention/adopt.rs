//! Whether what a new run is to take over of an old one is still there.

use pipekeeper_engine::{Rejection, RunRequest};
use pipekeeper_model::Digest;

use crate::{
    SubmitError,
    job::{Tools, unavailable},
};

use super::tell_gone;

impl Tools {
    /// Refuses a run that would adopt files which are gone. Those that are there stay until it is stored.
    pub(crate) async fn check_kept(&self, request: &RunRequest) -> Result<(), SubmitError> {
        let (Some(upkeep), Some(adopted)) = (&self.upkeep, &request.adopted) else {
            return Ok(());
        };
        let files: Vec<Digest> = (adopted.nodes.values())
            .flat_map(|node| node.files().cloned())
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let estate = upkeep.estates.estate(adopted.from).await.map_err(unavailable)?;
        let gone = estate.and_then(|estate| estate.artifacts_gone);
        let layout = self.layout.clone();
        let renewed = tokio::task::spawn_blocking(move || {
            let mut all = true;
            for digest in &files {
                all &= layout.renew(digest)?;
            }
            Ok::<_, std::io::Error>(all)
        });
        let are_there = renewed.await.map_err(unavailable)?.map_err(unavailable)?;
        let how = match gone {
            Some(gone) => tell_gone(&gone),
            None if are_there => return Ok(()),
            None => "removed".to_owned(),
        };
        let from = adopted.from;
        let why = format!("the artifacts of run {from} were {how}: run all of it again");
        Err(SubmitError::Rejected(Rejection::Stale { why }))
    }
}
