//! A small HTTP client that notices an answer which was cut short.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use crate::place::Delivery;

const PATIENCE: Duration = Duration::from_secs(20);

/// Where a server is and how to be let in.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) hook: String,
}

/// An answer that came whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Delivers as a forge does.
    pub(crate) fn deliver(&self, delivery: &Delivery) -> io::Result<Answer> {
        self.send("POST", &self.hook, &delivery.headers, &delivery.body)
    }

    /// Bytes of the API.
    pub(crate) fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let answer = self.api("GET", path, &[])?;
        if answer.status == 200 {
            Ok(answer.body)
        } else {
            Err(io::Error::other(format!(
                "`{path}` is answered with {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )))
        }
    }

    /// JSON of the API.
    pub(crate) fn get_json(&self, path: &str) -> io::Result<Value> {
        serde_json::from_slice(&self.get(path)?).map_err(io::Error::other)
    }

    /// JSON of an address beside the API.
    pub(crate) fn get_raw(&self, path: &str) -> io::Result<Value> {
        let answer = self.send("GET", path, &[], &[])?;
        serde_json::from_slice(&answer.body).map_err(io::Error::other)
    }

    /// Asks for something; whether it was taken shows in what follows.
    pub(crate) fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.api("POST", path, body.to_string().as_bytes())
    }

    fn api(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let headers = [
            ("authorization".to_owned(), format!("Bearer {}", self.token)),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        self.send(method, &format!("/api/v1{path}"), &headers, body)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&self.request(method, path, headers, body))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        read(bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The bytes of a request.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Vec<u8> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend(body);
        request
    }
}

/// None if it was cut short.
fn read(bytes: Vec<u8>) -> Option<Answer> {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes.get(..end)?.to_owned())
        .ok()?
        .to_ascii_lowercase();
    let body = bytes.get(end + 4..)?.to_owned();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?
        .parse()
        .ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (length == body.len()).then_some(Answer { status, body })
}
