//! The listener: own accept loop, because limits come before anything else; entry: [`serve`].

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{Exposure, ServerParts, app::App, guard::Peer, stall::StallGuard};

/// A server could not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address can be reached by others.
    #[error(
        "listen on `{address}`: other machines reach it only through a proxy with TLS; hint: say `url` and `behind_proxy`, or use `127.0.0.1:{}`",
        address.port()
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The listener does not tell its address.
    #[error("use the listener: {0}")]
    Listener(#[source] io::Error),
    /// The system does not work.
    #[error("start: {reason}")]
    System {
        /// What failed.
        reason: String,
    },
}

/// Refuses every address that another machine could reach.
///
/// # Errors
/// If the address is not a loopback address.
pub fn loopback_only(address: SocketAddr) -> Result<(), ServeError> {
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ServeError::NotLoopback { address })
    }
}

/// Serves until `shutdown` resolves, then ends live streams and waits for open requests, but not for long.
///
/// # Errors
/// If the listener's address is not loopback, or the system does not work.
pub async fn serve(
    listener: TcpListener,
    parts: ServerParts,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    match parts.exposure {
        Exposure::Loopback => loopback_only(address)?,
        Exposure::Proxied { .. } => {}
    }
    let drain = parts.limits.drain;
    let app = App::new(parts).map_err(|error| ServeError::System {
        reason: error.detail().to_owned(),
    })?;
    let mut connections = Connections::new(Arc::clone(&app));
    tokio::pin!(shutdown);
    loop {
        let arrival = tokio::select! {
            biased;
            () = &mut shutdown => break,
            arrival = connections.next(&listener) => arrival,
        };
        match arrival {
            Ok((stream, peer, slot)) => connections.open(stream, Peer(peer), slot),
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    app.close();
    connections.drain(drain).await;
    Ok(())
}

/// How often what is over is removed: sessions, tokens, links.
const SWEEP: Duration = Duration::from_mins(10);

async fn sweep(app: Arc<App>) {
    loop {
        if let Err(error) = app.parts.registry.expire(app.now()).await {
            warn!("sessions and tokens that are over stay for now: {error}");
        }
        sleep(SWEEP).await;
    }
}

/// Accepting fails when file descriptors run out; trying at once again would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Connections {
    app: Arc<App>,
    router: Router,
    slots: Arc<Semaphore>,
    builder: http1::Builder,
    /// One for each connection.
    connections: JoinSet<()>,
    /// What works as long as the server does.
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(app: Arc<App>) -> Self {
        let limits = &app.parts.limits;
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(64 * 1024);
        let mut tasks = JoinSet::new();
        tasks.spawn(app.metrics.follow(&app.parts.handle));
        tasks.spawn(sweep(Arc::clone(&app)));
        Self {
            slots: Arc::new(Semaphore::new(limits.connections)),
            router: app.router(),
            builder,
            connections: JoinSet::new(),
            tasks,
            app,
        }
    }

    async fn next(&self, listener: &TcpListener) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer.ip().to_canonical(), slot))
    }

    fn open(&mut self, stream: TcpStream, peer: Peer, slot: OwnedSemaphorePermit) {
        while self.connections.try_join_next().is_some() {}
        // Small answers must not wait for more of them.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(StallGuard::new(stream, self.app.parts.limits.idle_timeout));
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        // One that becomes a terminal ends here, and goes on with whoever took it.
        let mut connection = self.builder.serve_connection(io, service).with_upgrades();
        let open = self.app.metrics.connection();
        let closed = self.app.closed();
        self.connections.spawn(async move {
            let mut connection = Pin::new(&mut connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closed => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%error, "a connection broke");
            }
            drop((slot, open));
        });
    }

    async fn drain(mut self, limit: Duration) {
        let ended = async { while self.connections.join_next().await.is_some() {} };
        if timeout(limit, ended).await.is_err() {
            warn!("some requests did not end in time");
        }
        self.connections.shutdown().await;
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::loopback_only;

    #[test]
    fn only_loopback_is_listened_on() {
        for good in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(loopback_only(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80"] {
            let error = loopback_only(bad.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("or use `127.0.0.1:80`"), "{error}");
        }
    }
}
