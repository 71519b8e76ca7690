//! Requests against servers of many habits, in this process.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use super::Way;
use crate::model::{HealthCheck, SpecFormat, read_spec};

/// A check as a person writes it.
fn check(health: &str) -> HealthCheck {
    let text = format!(
        "{{service: s, environment: qa, run: {{command: [x]}}, ports: {{http: 80}}, health: {{http: /, {health}}}}}"
    );
    read_spec(&text, SpecFormat::Yaml).unwrap().health
}

/// Answers every connection with the same bytes, whatever it is asked; `then` what comes after them, for ever.
async fn serve(answer: &'static [u8], then: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                while !then.is_empty() && stream.write_all(then).await.is_ok() {}
            });
        }
    });
    at
}

/// Asks; the status, or what came back.
async fn ask(way: &Way, at: SocketAddr) -> Result<u16, String> {
    let answer =
        tokio::time::timeout(Duration::from_secs(10), way.get(at, "/x", &[])).await.expect("an answer in time");
    answer.map(|a| a.status()).map_err(|e| e.to_string())
}

struct Pem {
    cert: rcgen::Certificate,
    key: rcgen::KeyPair,
}

fn own_certificate(names: &[&str], ca: bool) -> Pem {
    let mut params = rcgen::CertificateParams::new(names.iter().map(|n| (*n).into()).collect::<Vec<String>>()).unwrap();
    if ca {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    Pem { cert, key }
}

async fn serve_tls(pem: &Pem) -> SocketAddr {
    let key = PrivateKeyDer::try_from(pem.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pem.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    at
}

fn write(dir: &Path, name: &str, pem: &Pem) -> String {
    let path = dir.join(name);
    std::fs::write(&path, pem.cert.pem()).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_head_decides_however_long_the_body_is() {
    let way = Way::plain();
    let endless = serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", &[b'x'; 4096]).await;
    assert_eq!(ask(&way, endless).await, Ok(200));
    let large = serve(b"HTTP/1.1 204 No Content\r\ncontent-length: 9999999999\r\n\r\n", b"").await;
    assert_eq!(ask(&way, large).await, Ok(204));
    // A head that does not end is no answer yet.
    let half = serve(b"HTTP/1.1 200 OK\r\nx: y\r\n", b"z: a\r\n").await;
    let said =
        tokio::time::timeout(Duration::from_secs(10), way.get(half, "/", &[])).await.expect("bounded").unwrap_err();
    assert!(said.to_string().contains("HTTP/1.1"), "{said}");
    let page = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"").await;
    assert_eq!(way.get(page, "/a b", &[]).await.unwrap().page().await.unwrap(), b"ok");
    let cut = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", b"").await;
    assert!(way.get(cut, "/", &[]).await.unwrap().page().await.is_err());
    assert!(way.get(endless, "/", &[]).await.unwrap().page().await.unwrap_err().to_string().contains("more than"));
}

#[tokio::test]
async fn what_came_back_is_said() {
    let way = Way::plain();
    let bad = serve(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b"").await;
    assert_eq!(way.get(bad, "/", &[]).await.unwrap().said(), "400 Bad Request");
    let strange = serve(b"HTTP/1.0 599 Nothing\r\n\r\n", b"").await;
    assert_eq!(way.get(strange, "/", &[]).await.unwrap().said(), "599");
    let mute = serve(b"", b"").await;
    let said = ask(&way, mute).await.unwrap_err();
    assert!(said.contains("without an answer") && said.contains("health.scheme: https"), "{said}");
    let alert = serve(&[0x15, 3, 1, 0, 2, 2, 40], b"").await;
    assert_eq!(ask(&way, alert).await.unwrap_err(), "speaks TLS: set health.scheme: https");
    let ssh = serve(b"SSH-2.0-OpenSSH_9.2\r\n", b"").await;
    assert!(ask(&way, ssh).await.unwrap_err().contains("HTTP"));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(ask(&way, nobody).await.unwrap_err().to_lowercase().contains("refused"));
    // A real TLS server that is spoken to in the clear.
    let pem = own_certificate(&["shop.example"], false);
    let said = ask(&way, serve_tls(&pem).await).await.unwrap_err();
    assert!(said.contains("speaks TLS: set health.scheme: https"), "{said}");
}

#[tokio::test]
async fn over_tls_the_certificate_and_its_name_are_held_to_the_spec() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) =
        (own_certificate(&["shop.example", "127.0.0.1"], true), own_certificate(&["shop.example"], true));
    let (ours_at, other_at) = (serve_tls(&ours).await, serve_tls(&other).await);
    let file = write(dir.path(), "ca.pem", &ours);
    let way = |health: &str| Way::of(&check(&format!("scheme: https, {health}")));
    let ca = |more: &str| way(&format!("tls: {{ca_file: {file}{more}}}"));
    assert_eq!(ask(&ca(""), ours_at).await, Ok(200), "its address is in the certificate");
    assert_eq!(ask(&ca(", server_name: shop.example"), ours_at).await, Ok(200));
    assert_eq!(ask(&way(&format!("host: 'shop.example:8443', tls: {{ca_file: {file}}}")), ours_at).await, Ok(200));
    let said = ask(&ca(", server_name: other.example"), ours_at).await.unwrap_err();
    assert!(said.contains("certificate") && said.contains("other.example"), "{said}");
    let said = ask(&ca(", server_name: shop.example"), other_at).await.unwrap_err();
    assert!(said.contains("certificate") && said.contains(&file), "{said}");
    assert_eq!(ask(&way("tls: {insecure_skip_verify: true}"), other_at).await, Ok(200), "unverified, by name");
    let clear = serve(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b"").await;
    assert_eq!(ask(&ca(""), clear).await.unwrap_err(), "does not speak TLS: set health.scheme: http");
}

#[tokio::test]
async fn a_ca_file_is_named_when_it_cannot_be_used_and_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (own_certificate(&["127.0.0.1"], false), own_certificate(&["127.0.0.1"], false));
    let at = serve_tls(&second).await;
    let path = dir.path().join("ca.pem");
    let way = Way::of(&check(&format!("scheme: https, tls: {{ca_file: {}}}", path.display())));
    let said = ask(&way, at).await.unwrap_err();
    assert!(said.contains("health.tls.ca_file") && said.contains("No such file"), "{said}");
    std::fs::write(&path, "no certificate\n").unwrap();
    assert!(ask(&way, at).await.unwrap_err().contains("holds no certificate"));
    write(dir.path(), "ca.pem", &first);
    assert!(ask(&way, at).await.unwrap_err().contains("certificate"));
    write(dir.path(), "ca.pem", &second);
    assert_eq!(ask(&way, at).await, Ok(200));
}
