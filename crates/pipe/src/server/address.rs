//! Listening, with errors that say who is in the way.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::failure::Failure;

/// Binds the address, which must be one of this machine itself.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    pipekeeper_server::loopback_only(address).map_err(|error| {
        Failure::usage(format!("failed to {}", crate::failure::chain(&error)))
            .hint("listen on 127.0.0.1 and put what you trust in front of it, such as an SSH tunnel")
    })?;
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::usage(format!("failed to listen on {address}: {error}"));
        if error.kind() == io::ErrorKind::AddrInUse {
            failure.hint("another program has the port; choose one with `--listen` (the demo: `--port`)")
        } else {
            failure
        }
    })
}
