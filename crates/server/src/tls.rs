//! TLS of the server's own: certificate and key from files, read again when they change. Entry type: [`TlsFiles`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::Acceptor,
    version::{TLS12, TLS13},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tracing::{info, warn};

/// How long the greeting of the other end may take, and how long the rest of the handshake, its turn included.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_mins(1);
/// What is spoken, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// The files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("read `{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// They do not belong together, or are of a kind that is not taken.
    #[error("use the certificate `{}` with its key: {source}", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads both.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let failed = |path: &Path, reason: String| TlsError::File {
            path: path.to_owned(),
            reason,
        };
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|error| failed(&self.certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(failed(&self.certificate, "it holds no certificate".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|error| failed(&self.key, error.to_string()))?;
        let mismatch = |source| TlsError::Pair {
            path: self.certificate.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Arc::new(config))
    }

    /// What changes about them when they are written anew; links are followed.
    fn seen(&self) -> io::Result<[(SystemTime, u64); 2]> {
        let look = |path: &Path| {
            let file = fs::metadata(path)?;
            Ok::<_, io::Error>((file.modified()?, file.len()))
        };
        Ok([look(&self.certificate)?, look(&self.key)?])
    }
}

/// Does handshakes with what the files hold now.
pub(crate) struct Handshakes {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Each answer takes a signature's time of a core; the other half of them does something else.
    places: Semaphore,
}

impl Handshakes {
    pub(crate) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            current: RwLock::new(files.load()?),
            places: Semaphore::new((available_parallelism().map_or(1, usize::from) / 2).max(1)),
            files,
        })
    }

    /// A connection after its handshake.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let greeting = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let greeted = timeout(HANDSHAKE, greeting).await.map_err(late)??;
        let shaken = async {
            // Nobody holds a place while the other end is waited for.
            let answered = {
                let _place = self.places.acquire().await.map_err(io::Error::other)?;
                greeted.into_stream(self.config())
            };
            answered.await
        };
        timeout(HANDSHAKE, shaken).await.map_err(late)?
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; what cannot be used changes nothing.
    pub(crate) fn reload(&self) {
        match self.files.load() {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                info!("the certificate was read again");
            }
            Err(error) => warn!("the certificate stays as it was: failed to {error}"),
        }
    }

    /// Keeps to the files for ever: when they change, and when somebody says so (SIGHUP).
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut hangups = signal(SignalKind::hangup())
            .inspect_err(|error| warn!("SIGHUP is not heard: {error}"))
            .ok();
        let mut seen = self.files.seen().ok();
        loop {
            let told = async {
                match &mut hangups {
                    Some(hangups) => drop(hangups.recv().await),
                    None => std::future::pending().await,
                }
            };
            let is_told = tokio::select! {
                () = told => true,
                () = sleep(LOOK) => false,
            };
            // One that is not there is being replaced.
            let now = self.files.seen().ok();
            if is_told || now.is_some() && now != seen {
                seen = now;
                self.reload();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::TlsConnector;

    use super::{Handshakes, TlsFiles};

    /// Writes a certificate for `localhost` that vouches for itself; what trusts it alone.
    fn write(files: &TlsFiles) -> ClientConfig {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        builder
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    async fn shake(handshakes: &Handshakes, client: &ClientConfig) -> bool {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client.clone()));
        let (server, client) = tokio::join!(handshakes.accept(ours), connector.connect(name, theirs));
        server.is_ok() && client.is_ok()
    }

    #[tokio::test]
    async fn a_certificate_is_replaced_by_one_that_works_alone() {
        let folder = TempDir::new().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("crt"),
            key: folder.path().join("key"),
        };
        assert!(Handshakes::new(files.clone()).is_err(), "there is none");
        let first = write(&files);
        let handshakes = Handshakes::new(files.clone()).unwrap();
        assert!(shake(&handshakes, &first).await);
        let key = fs::read(&files.key).unwrap();
        let seen = files.seen().unwrap();
        let second = write(&files);
        assert_ne!(files.seen().unwrap(), seen);
        assert!(shake(&handshakes, &first).await, "nobody looked yet");
        let new_key = fs::read(&files.key).unwrap();
        for broken in [key, b"none".to_vec()] {
            fs::write(&files.key, broken).unwrap();
            handshakes.reload();
            assert!(shake(&handshakes, &first).await && !shake(&handshakes, &second).await);
        }
        fs::write(&files.key, new_key).unwrap();
        handshakes.reload();
        assert!(shake(&handshakes, &second).await && !shake(&handshakes, &first).await);
    }

    #[tokio::test]
    async fn those_who_fall_silent_keep_nobody_out() {
        const MANY: usize = 100;

        let folder = TempDir::new().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("crt"),
            key: folder.path().join("key"),
        };
        let client = write(&files);
        let handshakes = Handshakes::new(files).unwrap();
        let mut greeting = Vec::new();
        let name = ServerName::try_from("localhost").unwrap();
        let mut shy = rustls::ClientConnection::new(Arc::new(client.clone()), name).unwrap();
        shy.write_tls(&mut greeting).unwrap();
        let mut theirs = Vec::new();
        let mut waiting = Vec::new();
        for said in [&greeting[..0], &greeting] {
            for _ in 0..MANY {
                let (ours, mut silent) = tokio::io::duplex(16 * 1024);
                silent.write_all(said).await.unwrap();
                theirs.push(silent);
                let mut handshake = Box::pin(handshakes.accept(ours));
                assert!(futures_util::poll!(&mut handshake).is_pending());
                waiting.push(handshake);
            }
        }
        assert!(shake(&handshakes, &client).await);
    }

    #[tokio::test]
    async fn plain_text_is_no_handshake() {
        let folder = TempDir::new().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("crt"),
            key: folder.path().join("key"),
        };
        write(&files);
        let handshakes = Handshakes::new(files).unwrap();
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        assert!(handshakes.accept(ours).await.is_err());
    }
}
