//! What a supervisor says.

use std::{io, sync::Arc};

use pipekeeper_agent::protocol::{AttemptSpec, FromAgent, Incoming, ToAgent};
use pipekeeper_model::Holder;

use super::{Alone, Files, Job, Lane, Services};
use crate::{
    LaunchError, What,
    pod::{
        StreamRole, files,
        link::{Link, Tries},
        mirror::Log,
        mirror::Ticketed,
    },
};

/// What a supervisor may note beyond the limit of its log.
const NOTES: u64 = 8 << 20;

/// The bytes that the log of an attempt may have.
pub(super) fn most_of_log(spec: &AttemptSpec) -> u64 {
    spec.log_limit.saturating_add(NOTES)
}

impl Lane {
    pub(super) async fn hear(&mut self, incoming: Incoming) -> io::Result<()> {
        match incoming {
            Incoming::Log { offset, bytes } => match self.keep_log(offset, &bytes) {
                Ok(bytes) => self.report(What::LogGrew { bytes }),
                Err(error) => self.read_log_later(&error),
            },
            Incoming::Message(message) => self.hear_message(message).await?,
        }
        Ok(())
    }

    /// Keeps what came of the log; its size then.
    fn keep_log(&mut self, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let most = self.order()?.map_or(0, |order| most_of_log(&order.spec));
        let log = self.log()?;
        log.take(offset, bytes, most)?;
        Ok(log.bytes())
    }

    /// Reads the log on another stream, from where it is whole, once there may be room for it.
    fn read_log_later(&mut self, error: &io::Error) {
        let reason = format!("the server cannot keep its log: {error}; see its disk");
        self.report(What::Waiting { reason });
        self.log = None;
        self.link = Link::Awaited(Tries::later());
    }

    pub(super) async fn hear_message(&mut self, message: FromAgent) -> io::Result<()> {
        match message {
            FromAgent::Ready { holder, .. } => {
                self.seen.holder = Some(Holder(holder));
                let spec = Box::new(self.spec()?);
                self.tell(&ToAgent::Assign { spec }).await;
                self.send_files().await?;
            }
            FromAgent::CheckedIn {
                attempt,
                holder,
                nonce,
                ..
            } => {
                let spec = self.spec()?;
                if (attempt, nonce) != (spec.attempt, spec.nonce) {
                    self.link = Link::Down;
                    return Err(io::Error::other("another attempt's supervisor answers"));
                }
                // Once a stream is enough; who says it over and over keeps the server busy, no more.
                if std::mem::replace(&mut self.seen.checked_in, true) {
                    return Ok(());
                }
                self.seen.holder = Some(Holder(holder));
                let from = self.log()?.bytes();
                self.tell(&ToAgent::ReadLog { from }).await;
                if !self.lookers.is_empty() {
                    self.tell(&ToAgent::Look).await;
                }
                if let Some(grace) = self.stopping {
                    self.tell(&ToAgent::Stop { grace_ms: grace.0 }).await;
                }
                if self.is_going {
                    self.tell(&ToAgent::PodEnds).await;
                }
                self.send_files().await?;
                self.check_in();
            }
            FromAgent::StepStarted { index: step, .. } => {
                if self.seen.step.replace(step) != Some(step) {
                    self.report(What::StepStarted { step });
                }
            }
            FromAgent::Silent {
                seconds,
                processes,
                cpu_ms,
            } => {
                if self.seen.silent.replace(seconds) != Some(seconds) {
                    let processes = format!("{processes} processes, {cpu_ms} ms of CPU time");
                    self.report(What::Silent { seconds, processes });
                }
            }
            FromAgent::Finished { record } => self.told_end(record).await?,
            FromAgent::Processes { text } => self.lookers.tell(&text),
            FromAgent::Started { .. } | FromAgent::LogGrew { .. } | FromAgent::Pong | FromAgent::Unknown => {}
        }
        Ok(())
    }

    /// Sends the pod what it needs, unless it has it or is past needing it.
    async fn send_files(&mut self) -> io::Result<()> {
        if self.files != Files::Unknown {
            return Ok(());
        }
        let is_past = matches!(self.mirror.ticketed()?, Ticketed::Pod(_));
        let order = self
            .order()?
            .filter(|order| !is_past && !order.uploads.is_empty());
        let Some(order) = order else {
            self.files = Files::InPlace;
            return Ok(());
        };
        // What cannot be read shows when it is sent the other way.
        if let Ok(Some(files)) = files::small(&order.uploads).await {
            self.files = Files::Sent;
            for file in files {
                self.tell(&file).await;
            }
            return Ok(());
        }
        self.files = Files::UnderWay;
        let (shared, attempt) = (Arc::clone(&self.shared), self.attempt);
        self.jobs.spawn(async move {
            let put = async {
                let (_permit, stream) = shared.open_bulk(attempt, StreamRole::Put).await?;
                files::put(stream, &order.uploads).await
            };
            Job::Put(put.await)
        });
        Ok(())
    }

    pub(super) async fn was_put(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => {
                self.files = Files::InPlace;
                self.check_in();
            }
            Err(error) => {
                // A new stream begins anew with what is missing.
                self.files = Files::Unknown;
                self.report(What::Waiting {
                    reason: format!("its files do not reach its pod: {error}"),
                });
                return self.hung_up().await;
            }
        }
        Ok(())
    }

    /// Asks for the ticket, once everything is there.
    pub(super) fn check_in(&mut self) {
        let order = self.order.as_deref();
        let wants_services = order.is_some_and(|order| !order.services.is_empty());
        let wants_alone = order.is_some_and(|order| order.wants_alone);
        if self.files.are_there()
            && self.seen.checked_in
            && (!wants_services || self.services == Services::Ready)
            && (!wants_alone || self.is_alone())
            && let Some(holder) = self.seen.holder.clone()
        {
            self.report(What::CheckedIn { holder });
        }
    }

    /// Whether it is known to have its volumes to itself; asks if that is not known.
    fn is_alone(&mut self) -> bool {
        if self.alone == Alone::Unknown {
            self.alone = Alone::Asked;
            let (host, attempt) = (Arc::clone(&self.shared.host), self.attempt);
            self.jobs
                .spawn(async move { Job::Asked(host.occupant(attempt).await) });
        }
        self.alone == Alone::Yes
    }

    /// Whoever has a volume of it is asked after again with the next look.
    pub(super) fn was_asked(&mut self, occupant: Result<Option<String>, LaunchError>) {
        let reason = match occupant {
            Ok(None) => {
                self.alone = Alone::Yes;
                return self.check_in();
            }
            Ok(Some(reason)) => reason,
            Err(error) => error.to_string(),
        };
        self.alone = Alone::Unknown;
        self.report(What::Waiting { reason });
    }

    pub(super) fn log(&mut self) -> io::Result<&mut Log> {
        if self.log.is_none() {
            let missing = || io::Error::other("it was never launched here");
            let order = self.order()?.ok_or_else(missing)?;
            self.log = Some(Log::open(&order.log)?);
        }
        self.log
            .as_mut()
            .ok_or_else(|| io::Error::other("there is no log"))
    }
}
