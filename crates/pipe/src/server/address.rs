//! Listening, with errors that say who is in the way.

use std::{io, net::SocketAddr};

use listenfd::ListenFd;
use pipekeeper_server::Exposure;
use tokio::net::TcpListener;

use crate::failure::{Failure, OrFail as _};

/// A socket that listens already: of the server that this process was before, or of whoever started it.
pub(crate) fn handed() -> Result<Option<std::net::TcpListener>, Failure> {
    let mut sockets = ListenFd::from_env();
    sockets
        .take_tcp_listener(0)
        .or_usage("use the socket that LISTEN_FDS names")
}

/// Binds the address, or takes the socket that was handed over. It must be one of this machine itself unless the server speaks
/// TLS or a proxy does.
pub(crate) async fn bind(
    address: SocketAddr,
    exposure: &Exposure,
    handed: Option<std::net::TcpListener>,
) -> Result<TcpListener, Failure> {
    let own = handed.as_ref().map(std::net::TcpListener::local_addr).transpose();
    let address = own.or_fail("find the address")?.unwrap_or(address);
    check(exposure)?;
    match exposure {
        Exposure::Loopback => pipekeeper_server::loopback_only(address).map_err(|error| {
            Failure::usage(format!("failed to {}", crate::failure::chain(&error))).hint(
                "set `url` to the address that people use and `[tls]` or `behind_proxy = true`, or listen on 127.0.0.1",
            )
        })?,
        Exposure::Proxied { .. } | Exposure::Tls { .. } => {}
    }
    if let Some(socket) = handed {
        socket.set_nonblocking(true).or_fail("use the socket")?;
        return TcpListener::from_std(socket).or_fail("use the socket");
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

/// Whether what a server needs to be reached so is there.
pub(crate) fn check(exposure: &Exposure) -> Result<(), Failure> {
    match exposure {
        Exposure::Loopback | Exposure::Proxied { .. } => Ok(()),
        Exposure::Tls { files, .. } => files.load().map(drop).or_usage("use `[tls]`"),
    }
}
