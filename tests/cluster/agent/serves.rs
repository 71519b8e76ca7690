//! An instance of many habits: this very test program, started by an agent with `TEST_SERVES` in its environment.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::worker::Package;

/// A package whose program serves as `TEST_SERVES` in `run.env` says.
pub fn package(version: &str) -> Package {
    let me = std::env::current_exe().unwrap();
    Package::script(version, &format!("exec '{}' --exact agent::serves::as_it_is_told --nocapture", me.display()))
}

/// Not a test of its own: the program of [`package`]. Without its variable it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn as_it_is_told() {
    let Ok(what) = std::env::var("TEST_SERVES") else { return };
    let acceptor = (what == "tls").then(|| {
        let pem = |name| std::fs::read(std::env::var(name).unwrap()).unwrap();
        let cert = CertificateDer::from_pem_slice(&pem("TEST_CERT")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem("TEST_KEY")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    });
    let listener = TcpListener::bind(std::env::var("SLIPWAY_ADDR_HTTP").unwrap()).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (what, acceptor) = (what.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => answer(stream, &what).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &what).await;
                    }
                }
            }
        });
    }
}

const PAGE: &str = "# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 10\n\
    # TYPE request_seconds histogram\nrequest_seconds_bucket{le=\"0.005\"} 7\nrequest_seconds_bucket{le=\"0.1\"} 9\n\
    request_seconds_bucket{le=\"+Inf\"} 10\nrequest_seconds_sum 0.9\nrequest_seconds_count 10\n";

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, what: &str) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut asked).await {
            Ok(n) if n > 0 => {}
            Ok(_) | Err(_) => return,
        }
    }
    let asked = String::from_utf8_lossy(&asked).to_lowercase();
    let metrics = asked.starts_with("get /metrics");
    let named = asked.contains("host: shop.example\r\n");
    let (status, body) = match what {
        // Ten requests, of which nobody knows how many failed if one looks for a label that is not there.
        _ if metrics => ("200 OK", PAGE),
        "host" if !named => ("400 Bad Request", "who?"),
        "busy" => ("429 Too Many Requests", "later"),
        _ => ("200 OK", "ok"),
    };
    let length =
        if what == "endless" && !metrics { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("HTTP/1.1 {status}\r\n{length}connection: close\r\n\r\n{body}");
    let _ = stream.write_all(head.as_bytes()).await;
    if what == "endless" && !metrics {
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let _ = stream.shutdown().await;
}
