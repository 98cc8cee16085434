//! A real S3 server in this process, which checks every signature. Other crates' tests use it too.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use pipekeeper_objects::{SecretKey, StoreOptions, UrlStyle};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::AbortHandle};

const BUCKET: &str = "caches";
const ACCESS_KEY: &str = "pipe";
const SECRET_KEY: &str = "the-secret-of-the-store";

/// The server; it ends when it is dropped.
pub(crate) struct Server {
    folder: TempDir,
    address: SocketAddr,
    serving: AbortHandle,
}

impl Server {
    /// Starts it at this address.
    pub(crate) async fn start(address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // Who hangs up early is no matter of this server.
                    let served = Builder::new(TokioExecutor::new());
                    drop(served.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self {
            folder,
            address,
            serving: serving.abort_handle(),
        }
    }

    /// How a server of ours is told to use it.
    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            url: format!("http://{}", self.address),
            others_url: None,
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "pipekeeper/i1".to_owned(),
            style: UrlStyle::Path,
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SecretKey::new(SECRET_KEY),
            ca: None,
        }
    }

    /// The folder of the bucket.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// The file of an object.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.bucket().join(Path::new(key))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
