//! What the controller asks of a lane.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use pipekeeper_agent::{archive, protocol::ToAgent};
use pipekeeper_model::{Holder, Millis};
use tokio::time::Instant;

use super::{Alone, Files, LOOK_AGAIN, LOOK_EVERY, Lane, Order, Seen};
use crate::{
    Launch, LaunchError, Scarce, SourceInput, Ticket, What,
    pod::{
        PodPlan, PodState,
        link::{Link, Tries},
        mirror::{Ticketed, beside},
        objects::access,
        order::plan,
        pool::Warm,
    },
    spec::to_answer,
};

/// Why an attempt is gone that was stopped before its pod started it.
const STOPPED_BEFORE: &str = "it was stopped before it started";
/// What a supervisor gets beyond the grace before its pod is removed.
const STOP_MARGIN: Duration = Duration::from_secs(30);

impl Lane {
    pub(super) async fn obey(&mut self, order: Order) -> Result<(), LaunchError> {
        match order {
            Order::Launch(launch) => self.launch(*launch).await,
            Order::Observe => self.observe().await,
            Order::Look(teller) => {
                // Who cannot be asked tells nothing, which shows as silence.
                self.link.wake();
                if self.tell(&ToAgent::Look).await || matches!(self.link, Link::Awaited(_)) {
                    self.lookers.add(teller);
                }
                Ok(())
            }
            Order::Stop(grace) => self.stop(grace).await,
            Order::Answer(holder, ticket) => self.answer(&holder, ticket).await,
            Order::Forget => self.forget().await,
        }
    }

    /// Tells what is already decided of the attempt; whether that is all there is to say.
    async fn tell_if_over(&mut self) -> io::Result<bool> {
        if let Some(record) = self.mirror.record()? {
            self.finish(record).await;
            return Ok(true);
        }
        if let Some(end) = self.mirror.end()? {
            self.report(end);
            return Ok(true);
        }
        Ok(false)
    }

    async fn launch(&mut self, launch: Launch) -> Result<(), LaunchError> {
        if self.tell_if_over().await.map_err(|error| self.explain(&error))? {
            return Ok(());
        }
        if !matches!(self.link, Link::Down) {
            self.repeat();
            return Ok(());
        }
        let ticketed = self.mirror.ticketed().map_err(|error| self.explain(&error))?;
        if ticketed != Ticketed::Nobody {
            return self.observe().await;
        }
        let is_known = self.order().map_err(|error| self.explain(&error))?.is_some();
        let source = self
            .archive_source(&launch)
            .await
            .map_err(|error| self.explain(&error))?;
        let (pod, mut order) = plan(&launch, &self.shared.options, source)?;
        let sharing = self.shared.options.pool.and(self.shared.host.sharing());
        let may_share = launch.may_share && order.services.is_empty() && !order.wants_alone;
        let sharing = sharing.filter(|_| may_share);
        order.share(sharing.and_then(|sharing| sharing.likeness(&pod)));
        if launch.may_share && !order.wants_alone && self.shared.options.hold.is_some() {
            order.hold();
        }
        let home = self.shared.host.home(&pod.placement);
        order.home.clone_from(&home);
        order.spec.limits = self.shared.options.limits;
        if !is_known {
            let mirror = self.mirror.clone();
            let written = order.clone();
            self.disk(move || {
                mirror.create()?;
                mirror.write_order(&written)
            })
            .await?;
            self.order = Some(Arc::new(order));
        }
        // What a person looks into is no further try.
        if !self.shared.sessions.has(self.attempt) {
            self.shared.held.is_followed_by(self.attempt);
        }
        if self.take_over(&pod).await? {
            return Ok(());
        }
        let created = self.shared.host.create(&pod).await;
        if let Err(LaunchError::Transient { reason } | LaunchError::Occupied { reason, .. }) = &created {
            let reason = reason.clone();
            self.report(What::Waiting { reason });
        }
        if let Err(LaunchError::Occupied { of, .. }) = &created {
            if *of == Scarce::Quota {
                self.shared.held.make_room(home.as_deref());
            }
            // There is no pod, and so none whose absence anybody should notice.
            self.order = None;
            let mirror = self.mirror.clone();
            self.disk(move || mirror.remove_order()).await?;
        }
        created?;
        self.looked_at = Some(Instant::now());
        self.made_at = self.looked_at;
        self.link = Link::Awaited(Tries::early(self.shared.host.usual_start()));
        self.look_due = Some(Instant::now() + LOOK_EVERY);
        Ok(())
    }

    /// Goes on in a pod that stands by, if there is one of this kind.
    async fn take_over(&mut self, pod: &PodPlan) -> Result<bool, LaunchError> {
        let likeness = self.order.as_ref().and_then(|order| order.likeness.clone());
        let shared = Arc::clone(&self.shared);
        let (Some(likeness), Some(sharing)) = (likeness, shared.host.sharing()) else {
            return Ok(false);
        };
        let Some(Warm {
            from,
            wire,
            ready,
            made_at,
        }) = shared.pool.take(&likeness).await
        else {
            return Ok(false);
        };
        if let Err(error) = sharing.hand_over(from, pod).await {
            tracing::info!(attempt.id = %self.attempt, "the pod of {from} is not taken over: {error}");
            shared.discard(from, Some(wire)).await;
            return Ok(false);
        }
        shared.pool.release(from);
        self.made_at = Some(made_at);
        self.looked_at = Some(Instant::now());
        self.look_due = Some(Instant::now() + LOOK_EVERY);
        self.seen = Seen::default();
        self.link = Link::Up(wire);
        let heard = self.hear_message(ready).await;
        heard.map_err(|error| self.explain(&error))?;
        Ok(true)
    }

    /// A folder is sent as an archive, which is made once.
    async fn archive_source(&mut self, launch: &Launch) -> io::Result<Option<PathBuf>> {
        let SourceInput::Folder(folder) = &launch.source else {
            return Ok(None);
        };
        let (folder, mirror) = (folder.clone(), self.mirror.clone());
        let packed = tokio::task::spawn_blocking(move || {
            mirror.create()?;
            let archive = mirror.source_path();
            if !archive.exists() {
                let making = beside(&archive);
                archive::pack(&folder, &["**".to_owned()], &making).map_err(io::Error::other)?;
                std::fs::rename(making, &archive)?;
            }
            Ok(archive)
        });
        packed
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map(Some)
    }

    async fn observe(&mut self) -> Result<(), LaunchError> {
        if self.tell_if_over().await.map_err(|error| self.explain(&error))? {
            return Ok(());
        }
        if self.order().map_err(|error| self.explain(&error))?.is_none() {
            self.report(What::Gone {
                reason: "nothing is known of it here".to_owned(),
            });
            return Ok(());
        }
        self.link.wake();
        let is_fresh = self.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if matches!(self.link, Link::Up(_)) || is_fresh && !matches!(self.link, Link::Down) {
            self.repeat();
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        let state = match self.shared.host.look(self.attempt).await {
            Ok(state) => state,
            Err(error) => {
                self.look_later(&error);
                return Err(error);
            }
        };
        if let (Link::Down, PodState::Waiting(_)) = (&self.link, &state) {
            self.link = Link::Awaited(Tries::early(Duration::ZERO));
            self.look_due = Some(Instant::now() + LOOK_EVERY);
        }
        self.note(state).await.map_err(|error| self.explain(&error))
    }

    /// The cluster does not answer: it is asked again, since nobody else tells of a pod that only the cluster knows.
    fn look_later(&mut self, error: &LaunchError) {
        let reason = format!("its pod cannot be asked after: {error}");
        self.report(What::Waiting { reason });
        if matches!(self.link, Link::Down) {
            self.link = Link::Awaited(Tries::later());
        }
        self.look_due.get_or_insert_with(|| Instant::now() + LOOK_AGAIN);
    }

    /// An attempt without a ticket never gets one, and its pod goes; one with it is told to end.
    async fn stop(&mut self, grace: Millis) -> Result<(), LaunchError> {
        if self.tell_if_over().await.map_err(|error| self.explain(&error))? {
            return Ok(());
        }
        let ticketed = self
            .mirror
            .ticket(&Ticketed::Void)
            .map_err(|error| self.explain(&error))?;
        match ticketed {
            Ticketed::Nobody | Ticketed::Void => self.refuse(STOPPED_BEFORE).await,
            Ticketed::Pod(_) => {
                let due = Instant::now() + Duration::from_millis(grace.0) + STOP_MARGIN;
                self.removal_due = Some(self.removal_due.map_or(due, |known| known.min(due)));
                self.stopping = Some(grace);
                if !self.tell(&ToAgent::Stop { grace_ms: grace.0 }).await {
                    return self.observe().await;
                }
                Ok(())
            }
        }
    }

    /// Removes a pod that may never start.
    async fn refuse(&mut self, reason: &str) -> Result<(), LaunchError> {
        self.tell(&ToAgent::Exit).await;
        self.link = Link::Down;
        self.why = None;
        // What stands by for others, under this attempt's name still, is theirs.
        if !self.shared.pool.holds(self.attempt) {
            self.shared.host.remove(self.attempt).await?;
        }
        let end = What::Gone {
            reason: reason.to_owned(),
        };
        self.mirror.set_end(&end).map_err(|error| self.explain(&error))?;
        self.report(end);
        Ok(())
    }

    /// An answer to a supervisor that is not there leads to a new observation, which will be answered anew.
    async fn answer(&mut self, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError> {
        if self.tell_if_over().await.map_err(|error| self.explain(&error))? {
            return Ok(());
        }
        if !matches!(self.link, Link::Up(_)) {
            return self.observe().await;
        }
        if self.seen.holder.as_ref() != Some(holder) {
            return Ok(());
        }
        let wish = match &ticket {
            Ticket::Go { .. } => Ticketed::Pod(holder.clone()),
            Ticket::Exit => Ticketed::Void,
        };
        let ticketed = self.mirror.ticket(&wish).map_err(|error| self.explain(&error))?;
        match ticketed {
            Ticketed::Pod(known) if known == *holder => {
                if let Ticket::Exit = &ticket {
                    return Ok(());
                }
                let order = self.order().map_err(|error| self.explain(&error))?;
                let store = order.map(|order| access(self.shared.options.objects.as_ref(), &order));
                let answer = to_answer(holder, ticket, store.unwrap_or_default());
                if !self.tell(&answer).await {
                    return self.observe().await;
                }
                Ok(())
            }
            Ticketed::Void => self.refuse("it was refused its ticket").await,
            Ticketed::Pod(_) | Ticketed::Nobody => {
                // The attempt's one ticket is another pod's: this one leaves without having run anything.
                self.tell(&ToAgent::Exit).await;
                Ok(())
            }
        }
    }

    async fn forget(&mut self) -> Result<(), LaunchError> {
        self.link = Link::Down;
        self.jobs.shutdown().await;
        // What stands by for others, under this attempt's name still, is theirs.
        if !self.shared.stays(self.attempt) {
            self.shared.host.remove(self.attempt).await?;
        }
        self.mirror.remove().map_err(|error| self.explain(&error))?;
        self.files = Files::Unknown;
        self.alone = Alone::Unknown;
        self.order = None;
        self.log = None;
        self.record = None;
        self.vain_fetches = 0;
        self.why = None;
        self.stopping = None;
        self.removal_due = None;
        self.is_removed = false;
        self.look_due = None;
        self.end_due = None;
        Ok(())
    }

    async fn disk(
        &mut self,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), LaunchError> {
        let worked = tokio::task::spawn_blocking(work).await;
        worked
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| self.explain(&error))
    }

    pub(super) fn explain(&self, error: &io::Error) -> LaunchError {
        LaunchError::Transient {
            reason: format!("attempt `{}`: {error}", self.attempt),
        }
    }
}
