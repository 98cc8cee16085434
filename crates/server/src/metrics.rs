//! What `/metrics` tells, in Prometheus' text form. Label sets are bounded: routes, not paths.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use pipekeeper_controller::{Duty, Handle, KeptFigures, News};
use pipekeeper_engine::Fact;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::broadcast::error::RecvError;

/// The server's counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    deliveries: Family<ResultLabels, Counter>,
    finished: Family<OutcomeLabels, Counter>,
    connections: Gauge,
    streams: Gauge,
    hooks: Gauge,
    kept: Kept,
}

/// What is kept of ended runs, and what went.
#[derive(Clone, Default)]
struct Kept {
    bytes: Family<PartLabels, Gauge>,
    removed: Family<PartLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counts one open thing until it is dropped.
pub(crate) struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Kept {
    fn set(&self, figures: KeptFigures) {
        let bytes = [("logs", figures.log_bytes), ("artifacts", figures.artifact_bytes)];
        let removed = [
            ("runs", figures.runs_removed),
            ("logs", figures.logs_removed),
            ("artifacts", figures.artifacts_removed),
        ];
        for (part, value) in bytes {
            let gauge = self.bytes.get_or_create(&PartLabels { part });
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        for (part, value) in removed {
            let gauge = self.removed.get_or_create(&PartLabels { part });
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("pipe");
        let requests = Family::default();
        let deliveries = Family::default();
        let finished = Family::default();
        let (connections, streams, hooks) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("http_requests", "Answered requests", requests.clone());
        registry.register("deliveries", "Webhook requests by result", deliveries.clone());
        registry.register(
            "runs_finished",
            "Runs that ended while this process listened",
            finished.clone(),
        );
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("live_streams", "Open live streams", streams.clone());
        registry.register(
            "hooks_in_progress",
            "Webhook requests being handled",
            hooks.clone(),
        );
        let kept = Kept::default();
        registry.register(
            "kept_bytes",
            "Bytes of ended runs' logs and of artifacts, as of the last look",
            kept.bytes.clone(),
        );
        registry.register(
            "removed_since_start",
            "Runs, logs of runs, and files of artifacts that were removed as old",
            kept.removed.clone(),
        );
        Arc::new(Self {
            registry,
            requests,
            deliveries,
            finished,
            connections,
            streams,
            hooks,
            kept,
        })
    }

    /// The text for Prometheus.
    pub(crate) fn text(&self, kept: KeptFigures) -> String {
        self.kept.set(kept);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn request(&self, route: Option<&str>, method: &Method, status: StatusCode) {
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        let labels = RequestLabels {
            route: route.unwrap_or("none").to_owned(),
            method,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn delivery(&self, result: &'static str) {
        self.deliveries.get_or_create(&ResultLabels { result }).inc();
    }

    pub(crate) fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    pub(crate) fn stream(&self) -> Open {
        Open::new(&self.streams)
    }

    pub(crate) fn hook(&self) -> Open {
        Open::new(&self.hooks)
    }

    /// Counts runs that end, for as long as it is polled.
    pub(crate) fn follow(self: &Arc<Self>, handle: &Handle) -> impl Future<Output = ()> + Send + 'static {
        let metrics = Arc::clone(self);
        let (handle, mut news) = (handle.clone(), handle.listen());
        async move {
            loop {
                match news.recv().await {
                    // Of several servers one counts.
                    Ok(News::Run { events, .. }) if matches!(handle.duty(), Duty::Performing(_)) => {
                        for event in events.iter() {
                            metrics.finished(&event.fact);
                        }
                    }
                    Ok(News::Run { .. } | News::Attempt { .. } | News::Delivery(_) | News::Elsewhere)
                    | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn finished(&self, fact: &Fact) {
        if let Fact::RunFinished { outcome } = fact {
            let labels = OutcomeLabels {
                outcome: outcome.as_str(),
            };
            self.finished.get_or_create(&labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeptFigures, Metrics};
    use axum::http::{Method, StatusCode};

    #[test]
    fn counters_are_told() {
        let metrics = Metrics::new();
        metrics.request(Some("/runs/{run}"), &Method::GET, StatusCode::OK);
        metrics.delivery("accepted");
        let stream = metrics.stream();
        let figures = KeptFigures {
            log_bytes: 7,
            ..KeptFigures::default()
        };
        let text = metrics.text(figures);
        assert!(
            text.contains(r#"pipe_http_requests_total{route="/runs/{run}",method="GET",status="200"} 1"#),
            "{text}"
        );
        assert!(text.contains("pipe_live_streams 1"), "{text}");
        assert!(text.contains(r#"pipe_kept_bytes{part="logs"} 7"#), "{text}");
        drop(stream);
        assert!(metrics.text(figures).contains("pipe_live_streams 0"));
    }
}
