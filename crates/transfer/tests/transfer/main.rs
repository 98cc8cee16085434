//! The program against peers that behave, and others.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests too")]

mod peer;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use pipekeeper_agent::protocol::{SecretText, Transfer, TransferOrder};
use tempfile::TempDir;

use crate::peer::Peer;

const RIGHT: &str = "X-Amz-Signature=c4n4ry";
const CA: &str = include_str!("../certificates/ca.pem");
const NO_KEY: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 33\r\n\r\n<Error><Code>NoSuchKey</Code>….";

struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("in/cache-deps")
    }

    fn order(&self, what: Transfer, scheme: &str, port: u16) -> TransferOrder {
        TransferOrder {
            what,
            url: SecretText::new(format!("{scheme}://localhost:{port}/ci/k?{RIGHT}")),
            file: self.file(),
            ca: None,
            connect_ms: 5_000,
            still_ms: 5_000,
            total_ms: 20_000,
        }
    }

    fn get(&self, peer: &Peer) -> Result<(), String> {
        run(&self.order(Transfer::Get { most: 7 }, "http", peer.port))
    }

    fn is_empty(&self) -> bool {
        let entries = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        entries(&self.folder.path().join("in")) == 0
    }
}

/// What the program says; nothing of it may hold the right.
fn run(order: &TransferOrder) -> Result<(), String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pipekeeper-transfer"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), order).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, complained) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(
        !said.contains("c4n4ry") && complained.is_empty(),
        "{said} {complained}"
    );
    assert_eq!(
        said.lines().count(),
        usize::from(!output.status.success()),
        "{said}"
    );
    if output.status.success() {
        Ok(())
    } else {
        Err(said.trim().to_owned())
    }
}

#[test]
fn an_object_becomes_a_file() {
    let (site, peer) = (
        Site::new(),
        Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\narchive"),
    );
    assert_eq!(site.get(&peer), Ok(()));
    assert_eq!(fs::read_to_string(site.file()).unwrap(), "archive");
    let asked = peer.asked();
    assert!(
        asked
            .head
            .starts_with(&format!("get /ci/k?{}", RIGHT.to_lowercase())),
        "{asked:?}"
    );
}

#[test]
fn a_file_becomes_an_object_whose_size_is_told() {
    let (site, peer) = (
        Site::new(),
        Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    );
    fs::create_dir(site.file().parent().unwrap()).unwrap();
    fs::write(site.file(), "archive").unwrap();
    assert_eq!(run(&site.order(Transfer::Put, "http", peer.port)), Ok(()));
    let asked = peer.asked();
    assert_eq!(asked.body, b"archive");
    // A store takes no body whose size it does not know.
    assert!(
        asked.head.contains("content-length: 7") && !asked.head.contains("chunked"),
        "{asked:?}"
    );
}

#[test]
fn a_store_that_refuses_a_large_file_is_heard() {
    const ANSWER: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 42\r\nconnection: close\r\n\r\n<Error><Code>SignatureDoesNotMatch</Code>.";
    let (site, peer) = (Site::new(), Peer::refusing(ANSWER));
    fs::create_dir(site.file().parent().unwrap()).unwrap();
    // More than lies between the two ends.
    fs::write(site.file(), vec![0; 32 << 20]).unwrap();
    let reason = run(&site.order(Transfer::Put, "http", peer.port)).unwrap_err();
    assert_eq!(reason, "the store answered 403 (SignatureDoesNotMatch)");
}

#[test]
fn what_is_not_as_it_is_known_becomes_no_file() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ntoo long",
            "more than the 7 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\ntoo long, and its size was not told",
            "more than the 7 bytes",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nshort", ""),
        (
            "HTTP/1.1 307 Elsewhere\r\nlocation: http://localhost:9/\r\ncontent-length: 0\r\n\r\n",
            "",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 76\r\n\r\n<Error><Code>AccessDenied</Code><Message>X-Amz-Signature=c4n4ry</Message>….",
            "answered 403 (AccessDenied)",
        ),
        (NO_KEY, "not there any more"),
        ("", ""),
    ];
    for (answer, wanted) in cases {
        let (site, peer) = (Site::new(), Peer::answering(answer));
        let reason = site.get(&peer).unwrap_err();
        assert!(reason.contains(wanted), "{answer}: {reason}");
        assert!(site.is_empty(), "{answer}");
    }
}

#[test]
fn a_peer_that_says_nothing_more_is_left() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\narc"] {
        let (site, peer) = (Site::new(), Peer::stalling(answer));
        let begun = Instant::now();
        let order = TransferOrder {
            still_ms: 300,
            ..site.order(Transfer::Get { most: 7 }, "http", peer.port)
        };
        let reason = run(&order).unwrap_err();
        assert!(reason.contains("in time"), "{reason}");
        assert!(begun.elapsed().as_millis() < 5_000, "{:?}", begun.elapsed());
        assert!(site.is_empty());
    }
}

#[test]
fn only_a_known_authority_is_trusted() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\narchive";
    let (site, peer) = (Site::new(), Peer::answering_over_tls(ANSWER));
    let order = site.order(Transfer::Get { most: 7 }, "https", peer.port);
    let trusting = TransferOrder {
        ca: Some(CA.to_owned()),
        ..order
    };
    assert_eq!(run(&trusting), Ok(()));
    assert_eq!(fs::read_to_string(site.file()).unwrap(), "archive");

    let (site, peer) = (Site::new(), Peer::answering_over_tls(ANSWER));
    let order = site.order(Transfer::Get { most: 7 }, "https", peer.port);
    let reason = run(&order).unwrap_err();
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(peer.asked().head, "");
}

#[test]
fn nobody_there_and_no_name_are_told() {
    let site = Site::new();
    // Nobody listens on the port for discarding.
    let refused = run(&site.order(Transfer::Get { most: 7 }, "http", 9)).unwrap_err();
    assert!(refused.to_lowercase().contains("refused"), "{refused}");
    let order = TransferOrder {
        url: SecretText::new(format!("http://no-such-host.invalid/ci/k?{RIGHT}")),
        ..site.order(Transfer::Get { most: 7 }, "http", 9)
    };
    assert!(run(&order).is_err());
}
