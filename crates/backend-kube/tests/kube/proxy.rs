//! A network between the server and the cluster that tests can break.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
    time::interval,
};

/// Forwards connections to the cluster.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct Shared {
    /// What becomes of new connections.
    fate: Mutex<Fate>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    /// What comes in is lost, and nobody is told: as when a firewall forgets a connection.
    Swallowed,
    Cut,
    /// Its request is answered here, with this status.
    Answered(&'static str),
}

struct Connection {
    fate: watch::Sender<Fate>,
    bytes: AtomicU64,
}

impl Proxy {
    /// A proxy to the cluster of this configuration.
    pub(crate) async fn to(config: &Config) -> Self {
        let (host, port) = (config.cluster_url.host(), config.cluster_url.port_u16());
        let target = format!("{}:{}", host.unwrap(), port.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            fate: Mutex::new(Fate::Passes),
            connections: Mutex::default(),
        });
        let accepted = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = accepted.add();
                tokio::spawn(serve(connection, client, target.clone()));
            }
        });
        Self {
            address,
            shared,
            tasks: Mutex::new(vec![accepting.abort_handle()]),
        }
    }

    /// The configuration with which a client goes through here.
    pub(crate) fn config(&self, config: &Config) -> Config {
        let mut config = config.clone();
        let scheme = config.cluster_url.scheme_str().unwrap();
        config.cluster_url = format!("{scheme}://{}", self.address).parse().unwrap();
        config
    }

    /// Ends all connections; new ones pass.
    pub(crate) fn cut(&self) {
        self.shared.condemn(Fate::Cut);
    }

    /// Ends all connections again and again.
    pub(crate) fn cut_every(&self, period: Duration) {
        let shared = Arc::clone(&self.shared);
        let cutting = tokio::spawn(async move {
            let mut due = interval(period);
            loop {
                due.tick().await;
                shared.condemn(Fate::Cut);
            }
        });
        self.lock_tasks().push(cutting.abort_handle());
    }

    /// From now on nothing passes any more, on old connections and new ones.
    pub(crate) fn swallow(&self) {
        *self.shared.fate() = Fate::Swallowed;
        self.shared.condemn(Fate::Swallowed);
    }

    /// From now on every request is answered with this status instead of by the cluster, which has to be reached without
    /// encryption for that.
    pub(crate) fn answer(&self, status: &'static str) {
        *self.shared.fate() = Fate::Answered(status);
        self.cut();
    }

    /// New connections pass again; those that were swallowed stay dead.
    pub(crate) fn heal(&self) {
        *self.shared.fate() = Fate::Passes;
    }

    /// Only those connections that are there now are swallowed.
    pub(crate) fn swallow_present(&self) {
        self.shared.condemn(Fate::Swallowed);
    }

    /// How many connections there were, and how much passed.
    pub(crate) fn traffic(&self) -> (usize, u64) {
        let connections = self.shared.connections();
        let bytes = connections
            .iter()
            .map(|connection| connection.bytes.load(Ordering::Relaxed));
        (connections.len(), bytes.sum())
    }

    fn lock_tasks(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in self.lock_tasks().iter() {
            task.abort();
        }
        self.shared.condemn(Fate::Cut);
    }
}

impl Shared {
    fn fate(&self) -> std::sync::MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            fate: watch::Sender::new(*self.fate()),
            bytes: AtomicU64::new(0),
        });
        self.connections().push(Arc::clone(&connection));
        connection
    }

    fn condemn(&self, fate: Fate) {
        for connection in self.connections().iter() {
            connection.fate.send_replace(fate);
        }
    }
}

async fn serve(connection: Arc<Connection>, client: TcpStream, target: String) {
    let mut fate = connection.fate.subscribe();
    let begun = *fate.borrow();
    if let Fate::Answered(status) = begun {
        // Whoever asked may have left.
        return answer(client, status).await.unwrap_or_default();
    }
    let Ok(cluster) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_cluster, to_cluster) = cluster.into_split();
    tokio::select! {
        _ = fate.wait_for(|fate| *fate == Fate::Cut) => {}
        ((), ()) = async { tokio::join!(
            pass(&connection, from_client, to_cluster),
            pass(&connection, from_cluster, to_client),
        ) } => {}
    }
}

/// Answers one request.
async fn answer(mut client: TcpStream, status: &str) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|part| part == b"\r\n\r\n") {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (code, reason) = status.split_once(' ').unwrap();
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the test says {reason}","code":{code}}}"#
    );
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes()).await
}

async fn pass(connection: &Connection, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if *connection.fate.borrow() == Fate::Swallowed {
            if count > 0 {
                continue;
            }
            // The other side never learns that this one left.
            return std::future::pending().await;
        }
        connection
            .bytes
            .fetch_add(u64::try_from(count).unwrap(), Ordering::Relaxed);
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
