//! One HTTP request to an instance, in the clear or over TLS, under the name that its spec gives; for checks, scrapes
//! and smoke tests.
//!
//! Invariants: each request has a connection of its own, since a server that accepts no new ones must not look healthy
//! through an old one; no redirect is followed and no proxy asked; the status is known as soon as the head is complete,
//! whatever the body does. An error says what came back. Not here: time limits and what follows from an answer
//! (`agent`, `act`).

mod first;
#[cfg(test)]
mod tests;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use self::{
    first::{First, FirstBytes},
    tls::Tls,
};
use crate::model::{HealthCheck, innermost};

/// Bytes of a page that are read.
const MAX_PAGE: usize = 4 << 20;
/// What is still read of a body that nobody wants, so that most servers see an end and no broken connection.
const COURTESY: (usize, Duration) = (64 << 10, Duration::from_millis(500));

/// Why there is no answer; texts are written to stand after the instance's address or path.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody took the connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The CA file cannot be used.
    #[error("health.tls.ca_file {path}: {problem}")]
    Trust {
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    #[error("health.tls.server_name: {0:?} is not a name or an address")]
    Name(String),
    /// The handshake failed.
    #[error("TLS: {0}")]
    Handshake(String),
    #[error("speaks TLS: set health.scheme: https")]
    SpeaksTls,
    #[error("does not speak TLS: set health.scheme: http")]
    SpeaksClear,
    #[error("closed the connection without an answer ({0}): if it speaks TLS: set health.scheme: https")]
    ClosedClear(String),
    #[error("closed the connection without an answer ({0})")]
    ClosedTls(String),
    #[error("does not answer in HTTP/1.1: {0}")]
    Http(String),
    /// The request cannot be made.
    #[error("cannot be asked: {0}")]
    Request(String),
    #[error("broke off in the middle of its answer: {0}")]
    Body(String),
    #[error("answered more than {MAX_PAGE} bytes")]
    TooLong,
}

/// How the instances of a spec are asked.
#[derive(Debug, Clone)]
pub struct Way {
    host: Option<String>,
    tls: Option<Arc<Tls>>,
}

/// An answer whose head is complete.
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    // Moves the bytes; ends with the answer.
    driver: JoinSet<()>,
}

impl Way {
    /// As a check says.
    pub fn of(check: &HealthCheck) -> Self {
        let tls = check.tls.as_ref().map(|t| Arc::new(Tls::new(t, check.host.as_deref())));
        Self { host: check.host.clone(), tls }
    }

    /// Whether the file that it trusts can be used, if it names one.
    pub async fn trust_is_there(&self) -> Result<(), AskError> {
        match &self.tls {
            Some(tls) => tls.config().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// In the clear, under its address.
    pub fn plain() -> Self {
        Self { host: None, tls: None }
    }

    /// Sends a GET and waits for the head of the answer. `headers` come on top.
    pub async fn get(&self, at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer, AskError> {
        let request = self.request(at, path, headers)?;
        let stream = TcpStream::connect(at).await.map_err(AskError::Connect)?;
        // Small requests that wait for nothing; without it only slower.
        let _ = stream.set_nodelay(true);
        let (stream, seen) = First::new(stream);
        match &self.tls {
            None => exchange(stream, request).await.map_err(|e| clear_error(&e, &seen)),
            Some(tls) => {
                let stream = tls.connect(at, stream).await?;
                exchange(stream, request).await.map_err(|e| match cause(&e) {
                    Some(gone) => AskError::ClosedTls(gone),
                    None => AskError::Http(innermost(&e).to_string()),
                })
            }
        }
    }

    fn request(
        &self,
        at: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Request<Empty<&'static [u8]>>, AskError> {
        let host = self.host.clone().unwrap_or_else(|| at.to_string());
        let mut request = Request::get(escaped(path))
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Empty::new()).map_err(|e| AskError::Request(e.to_string()))
    }
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The status with its name, such as `400 Bad Request`.
    pub fn said(&self) -> String {
        let status = self.response.status();
        status
            .canonical_reason()
            .map_or_else(|| status.as_str().to_owned(), |name| format!("{} {name}", status.as_str()))
    }

    /// Whether it is a 2xx.
    pub fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    /// Whether it is a 2xx or 3xx.
    pub fn is_page(&self) -> bool {
        let status = self.response.status();
        status.is_success() || status.is_redirection()
    }

    /// The whole body, which must be short.
    pub async fn page(self) -> Result<Vec<u8>, AskError> {
        let Self { response, driver } = self;
        let body = read(response, MAX_PAGE).await;
        drop(driver);
        body
    }

    /// Lets the body go. What has been sent already is read in the background, and no more than a little.
    pub fn dismiss(self) {
        let Self { response, driver } = self;
        tokio::spawn(async move {
            let (most, within) = COURTESY;
            // However it ends: nobody wants it.
            let _ = tokio::time::timeout(within, read(response, most)).await;
            drop(driver);
        });
    }
}

async fn read(mut response: Response<Incoming>, most: usize) -> Result<Vec<u8>, AskError> {
    let mut body = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|e| AskError::Body(innermost(&e).to_string()))?;
        let Ok(part) = frame.into_data() else { continue };
        if body.len() + part.len() > most {
            return Err(AskError::TooLong);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

async fn exchange<S>(stream: S, request: Request<Empty<&'static [u8]>>) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its error comes with the answer too.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await?;
    Ok(Answer { response, driver })
}

/// What came back to a request in the clear.
fn clear_error(e: &hyper::Error, seen: &FirstBytes) -> AskError {
    if seen.looks_like_tls() {
        return AskError::SpeaksTls;
    }
    match cause(e) {
        Some(gone) if !seen.any() => AskError::ClosedClear(gone),
        Some(gone) => AskError::Http(gone),
        None => AskError::Http(innermost(e).to_string()),
    }
}

/// How the connection ended, if that is the trouble.
fn cause(e: &hyper::Error) -> Option<String> {
    let mut last: &dyn std::error::Error = e;
    loop {
        if let Some(io) = last.downcast_ref::<io::Error>() {
            return Some(io.to_string());
        }
        match last.source() {
            Some(source) => last = source,
            None => break,
        }
    }
    (e.is_incomplete_message() || e.is_closed() || e.is_canceled()).then(|| "no byte came".to_owned())
}

/// A path as it may stand in a request line: what may not is escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        if b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
