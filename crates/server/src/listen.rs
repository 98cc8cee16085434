//! The listener: own accept loop, because limits come before anything else; entry: [`serve`].

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http_body_util::BodyExt as _;
use hyper::{
    Request,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, warn};

use crate::{
    Exposure, ServerParts, TlsError,
    app::App,
    guard::Peer,
    seats::{Seat, Seats},
    stall::StallGuard,
    tls::Handshakes,
};

/// A server could not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address can be reached by others.
    #[error(
        "listen on `{address}`: other machines reach it only over TLS; hint: say `url` with `[tls]` or `behind_proxy`, or use `127.0.0.1:{}`",
        address.port()
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The listener does not tell its address.
    #[error("use the listener: {0}")]
    Listener(#[source] io::Error),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    let handshakes = match &parts.exposure {
        Exposure::Loopback => {
            loopback_only(address)?;
            None
        }
        Exposure::Proxied { .. } => None,
        Exposure::Tls { files, .. } => Some(Arc::new(Handshakes::new(files.clone())?)),
    };
    let drain = parts.limits.drain;
    let app = App::new(parts).map_err(|error| ServeError::System {
        reason: error.detail().to_owned(),
    })?;
    let mut connections = Connections::new(Arc::clone(&app), handshakes);
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

/// Streams of one HTTP/2 connection at once.
const STREAMS: u32 = 64;
/// Streams that may be opened and reset before they were answered.
const RESETS: usize = 20;
/// How long an HTTP/2 connection stays on which nothing is asked and nothing is taken.
const IDLE: Duration = Duration::from_mins(5);
/// How long it may take to end after that.
const GOODBYE: Duration = Duration::from_secs(5);
/// The part of all connections that one address may have.
const SHARE: usize = 4;
/// How long the first request of a connection is waited for once the server goes.
const FIRST: Duration = Duration::from_millis(500);
/// How often the other end of an HTTP/2 connection is asked whether it is there, and how long it may take to say so.
const PING: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(20)];
const HEAD: u32 = 64 * 1024;

struct Connections {
    app: Arc<App>,
    speaker: Speaker,
    handshakes: Option<Arc<Handshakes>>,
    slots: Arc<Semaphore>,
    /// Where connections come straight from those who ask. Behind a proxy all are of one address.
    seats: Option<Arc<Seats>>,
    /// One for each connection.
    connections: JoinSet<()>,
    /// What works as long as the server does.
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(app: Arc<App>, handshakes: Option<Arc<Handshakes>>) -> Self {
        let limits = &app.parts.limits;
        let mut tasks = JoinSet::new();
        tasks.spawn(app.metrics.follow(&app.parts.handle));
        tasks.spawn(sweep(Arc::clone(&app)));
        if let Some(handshakes) = &handshakes {
            tasks.spawn(Arc::clone(handshakes).follow());
        }
        Self {
            slots: Arc::new(Semaphore::new(limits.connections)),
            seats: handshakes
                .is_some()
                .then(|| Arc::new(Seats::new(limits.connections / SHARE))),
            speaker: Speaker::new(&app),
            handshakes,
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
        let Ok(seat) = self.seat(peer) else {
            debug!(address = %peer.0, "an address has too many connections");
            return;
        };
        // Small answers must not wait for more of them.
        let _ = stream.set_nodelay(true);
        let stream = StallGuard::new(stream, self.app.parts.limits.idle_timeout);
        let open = self.app.metrics.connection();
        let (speaker, closed) = (self.speaker.clone(), self.app.closed());
        let handshakes = self.handshakes.clone();
        self.connections.spawn(async move {
            let ended = match handshakes {
                None => speaker.http1(stream, peer, closed).await,
                Some(handshakes) => match handshakes.accept(stream).await {
                    Err(error) => {
                        debug!(%error, "a handshake failed");
                        Ok(())
                    }
                    Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        speaker.http2(stream, peer, closed).await
                    }
                    Ok(stream) => speaker.http1(stream, peer, closed).await,
                },
            };
            if let Err(error) = ended {
                debug!(%error, "a connection broke");
            }
            drop((slot, seat, open));
        });
    }

    /// A place among those of its address, where that is asked for.
    fn seat(&self, peer: Peer) -> Result<Option<Seat>, NoSeat> {
        let seats = self.seats.as_ref();
        seats.map(|seats| seats.take(peer.0).ok_or(NoSeat)).transpose()
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

/// An address has as many connections as it may.
struct NoSeat;

/// Speaks HTTP on one connection.
#[derive(Clone)]
struct Speaker {
    /// How long nothing may be asked at first.
    patience: Duration,
    router: Router,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Speaker {
    fn new(app: &Arc<App>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(app.parts.limits.header_timeout)
            .max_buf_size(64 * 1024);
        let [every, answered] = PING;
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_header_list_size(HEAD)
            .keep_alive_interval(every)
            .keep_alive_timeout(answered);
        Self {
            patience: app.parts.limits.header_timeout,
            router: app.router(),
            http1,
            http2,
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        peer: Peer,
        closed: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let router = TowerToHyperService::new(self.router);
        let (asks, mut asked) = watch::channel(false);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.send_replace(true);
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        // One that becomes a terminal ends here, and goes on with whoever took it.
        let mut connection = self
            .http1
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = Pin::new(&mut connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = closed => {}
        }
        // Whoever has just connected is about to ask, and need not ask again: so webhooks would be lost.
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = timeout(FIRST, asked.wait_for(|is_asked| *is_asked)) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        peer: Peer,
        closed: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let (busy, idle) = idleness(self.patience);
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            busy.send_replace(Some(Instant::now()));
            request.extensions_mut().insert(peer);
            name_host(&mut request);
            let answer = router.call(request.map(|body| noted(Body::new(body), busy.clone())));
            let busy = busy.clone();
            async move { Ok::<_, Infallible>(answer.await?.map(|body| noted(body, busy))) }
        });
        let connection = self.http2.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = closed => {
                // What is being answered is answered to its end, as far as there is time.
                connection.as_mut().graceful_shutdown();
                return connection.await;
            }
            idle = idle => match idle {
                Idle::Never => return Ok(()),
                Idle::Long => connection.as_mut().graceful_shutdown(),
            },
        }
        // The other end may hold on to what it does not take.
        timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
    }
}

/// What nothing is done on.
enum Idle {
    /// Nothing was ever asked.
    Never,
    /// The last thing was long ago.
    Long,
}

/// A body each of whose parts says that it moves.
fn noted(body: Body, busy: watch::Sender<Option<Instant>>) -> Body {
    Body::new(body.map_frame(move |frame| {
        busy.send_replace(Some(Instant::now()));
        frame
    }))
}

/// When something was asked or moved last, and what resolves when that was long ago.
fn idleness(patience: Duration) -> (watch::Sender<Option<Instant>>, impl Future<Output = Idle>) {
    let begun = Instant::now();
    let (busy, mut last) = watch::channel(None);
    let idle = async move {
        loop {
            let (end, idle) = match *last.borrow_and_update() {
                None => (begun + patience, Idle::Never),
                Some(moved) => (moved + IDLE, Idle::Long),
            };
            tokio::select! {
                () = sleep_until(end) => return idle,
                // Without the sender there are no more requests, and the connection ends by itself.
                changed = last.changed() => if changed.is_err() {
                    sleep_until(end).await;
                    return idle;
                },
            }
        }
    };
    (busy, idle)
}

/// HTTP/2 names the host elsewhere. Where both are named and differ there are two, which nobody is answered under.
fn name_host(request: &mut Request<Incoming>) {
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let Some(authority) = authority.and_then(|text| HeaderValue::try_from(text).ok()) else {
        return;
    };
    if request.headers().get(header::HOST) != Some(&authority) {
        request.headers_mut().append(header::HOST, authority);
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
