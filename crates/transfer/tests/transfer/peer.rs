//! The other side of a transfer: one connection, answered as a test wants.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// What a request was.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A peer that was asked, or waits to be.
pub(crate) struct Peer {
    pub(crate) port: u16,
    serving: JoinHandle<Asked>,
}

impl Peer {
    /// Answers a request with these bytes, and hangs up.
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::start(move |mut stream| {
            let asked = read(&mut stream);
            // Who does not want all of it hangs up.
            drop(stream.write_all(answer.as_bytes()));
            asked
        })
    }

    /// Answers a request without reading more than its head, and hangs up.
    pub(crate) fn refusing(answer: &'static str) -> Self {
        Self::start(move |mut stream| {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            Asked::default()
        })
    }

    /// Says the beginning of an answer, and nothing more until the other side leaves.
    pub(crate) fn stalling(answer: &'static str) -> Self {
        Self::start(move |mut stream| {
            let asked = read(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            drop(stream.read(&mut [0]));
            asked
        })
    }

    /// Answers over TLS, as `localhost`.
    pub(crate) fn answering_over_tls(answer: &'static str) -> Self {
        Self::start(move |stream| {
            let certificate = include_bytes!("../certificates/server.pem");
            let key = include_bytes!("../certificates/server.key");
            let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(certificate).unwrap()],
                    PrivateKeyDer::from_pem_slice(key).unwrap(),
                )
                .unwrap();
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let asked = read(&mut stream);
            drop(stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()));
            asked
        })
    }

    fn start(serve: impl FnOnce(TcpStream) -> Asked + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
        Self { port, serving }
    }

    /// What it was asked.
    pub(crate) fn asked(self) -> Asked {
        self.serving.join().unwrap()
    }
}

/// Reads a request; what there is of it if the other side leaves.
fn read(stream: &mut impl Read) -> Asked {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(at) = split {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if bytes.len() >= at + 4 + length {
                let body = bytes.split_off(at + 4);
                return Asked { head, body };
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend(&chunk[..count]),
            Ok(_) | Err(_) => return Asked::default(),
        }
    }
}
