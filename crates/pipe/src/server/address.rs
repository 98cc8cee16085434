//! Listening, with errors that say who is in the way.

use std::{io, net::SocketAddr};

use pipekeeper_server::Exposure;
use tokio::net::TcpListener;

use crate::failure::Failure;

/// Binds the address, which must be one of this machine itself unless a proxy stands in front of it.
pub(crate) async fn bind(address: SocketAddr, exposure: &Exposure) -> Result<TcpListener, Failure> {
    match exposure {
        Exposure::Loopback => pipekeeper_server::loopback_only(address).map_err(|error| {
            Failure::usage(format!("failed to {}", crate::failure::chain(&error))).hint(
                "set `url` to the address that people use and `behind_proxy = true`, or listen on 127.0.0.1",
            )
        })?,
        Exposure::Proxied { .. } => {}
    }
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::usage(format!("failed to listen on {address}: {error}"));
        if error.kind() == io::ErrorKind::AddrInUse {
            failure.hint("another program has the port; choose one with `--listen` (the demo: `--port`)")
        } else {
            failure
        }
    })
}
