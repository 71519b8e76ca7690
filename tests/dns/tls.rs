//! DNS over TLS (RFC 7858) with a client that trusts the test's own authority: answers, limits, files that are wrong,
//! files that change.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hickory_proto::{op::Message, rr::RecordType};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use slipway::{
    clock::Clock,
    dns::{DnsLimits, DnsServer, Responder, TlsIdentity, ViewStore},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::fixture::{SHOP, World, query, settings};

const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "dns.example.test";

/// An authority, and a directory in which a node's files lie.
struct Files {
    dir: tempfile::TempDir,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self { dir: tempfile::tempdir().unwrap(), ca, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key`.
    fn issue(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![NAME.into()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn load(&self, cert: &str, key: &str) -> Result<TlsIdentity, String> {
        TlsIdentity::load(&self.path(cert), &self.path(key)).map_err(|e| e.to_string())
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"dot".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, to: SocketAddr) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        timeout(PATIENCE, self.connector().connect(name, stream)).await.unwrap().unwrap()
    }
}

struct Secured {
    server: DnsServer,
    responder: Arc<Responder>,
    plain: SocketAddr,
    tls: SocketAddr,
}

async fn serve(identity: Arc<TlsIdentity>, limits: &DnsLimits) -> Secured {
    let store = Arc::new(ViewStore::new());
    store.set_node(2);
    store.publish(&World::shop(2, 2, (5000, 5000)).state());
    store.set_ready(true);
    let responder = Arc::new(Responder::with(store, Clock::manual(0), settings()));
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (tcp, tls) = (bind().await.unwrap(), bind().await.unwrap());
    let (plain, secured) = (tcp.local_addr().unwrap(), tls.local_addr().unwrap());
    let server = DnsServer::start_with_tls(vec![], vec![tcp], Some((tls, identity)), Arc::clone(&responder), limits);
    Secured { server, responder, plain, tls: secured }
}

fn framed(m: &Message) -> Vec<u8> {
    let bytes = m.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Message> {
    let n = timeout(PATIENCE, stream.read_u16()).await.expect("no answer in time").ok()?;
    let mut bytes = vec![0; n.into()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("no answer in time").ok()?;
    Some(Message::from_vec(&bytes).unwrap())
}

/// What still comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    // A reset is an end too.
    assert!(read.is_ok(), "not cut off");
    rest
}

#[tokio::test]
async fn queries_over_tls_are_answered_one_behind_the_other() {
    let files = Files::new();
    let cert = files.issue("n1");
    let it = serve(Arc::new(files.load("n1.crt", "n1.key").unwrap()), &DnsLimits::default()).await;
    let mut stream = files.connect(it.tls).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"dot"[..]));
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), [cert]);
    let asked: Vec<Message> = (0..300).map(|_| query(SHOP, RecordType::A)).collect();
    let all: Vec<u8> = asked.iter().flat_map(framed).collect();
    for part in [&all[..1], &all[1..20], &all[20..]] {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
    }
    for m in &asked {
        let got = answer(&mut stream).await.expect("cut off");
        assert_eq!((got.metadata.id, got.answers.len()), (m.metadata.id, 2), "in the order of the questions");
    }
    let counts = it.responder.counts();
    assert_eq!((counts.tcp, counts.tls, counts.tls_failed), (300, 1, 0));
    it.server.stop().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_off() {
    let files = Files::new();
    files.issue("n1");
    let limits = DnsLimits {
        tcp_idle: Duration::from_millis(300),
        tcp_transfer: Duration::from_millis(300),
        ..DnsLimits::default()
    };
    let it = serve(Arc::new(files.load("n1.crt", "n1.key").unwrap()), &limits).await;
    // Nothing at all; the beginning of a handshake that promises more.
    for part in [&[][..], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut slow = TcpStream::connect(it.tls).await.unwrap();
        slow.write_all(part).await.unwrap();
        assert_eq!(rest(&mut slow).await, [0; 0], "{part:?} and then silence");
    }
    let mut open = TcpStream::connect(it.tls).await.unwrap();
    open.write_all(&framed(&query(SHOP, RecordType::A))).await.unwrap();
    let got = rest(&mut open).await;
    assert!(got.is_empty() || got[0] == 21, "plain DNS gets a TLS alert at most: {got:?}");
    assert_eq!(it.responder.counts().tls_failed, 3);
    // After the handshake the limits are those of TCP.
    let mut half = files.connect(it.tls).await;
    half.write_all(&[0, 40, 1]).await.unwrap();
    half.flush().await.unwrap();
    assert!(answer(&mut half).await.is_none());
    let mut fine = files.connect(it.tls).await;
    fine.write_all(&framed(&query(SHOP, RecordType::A))).await.unwrap();
    fine.flush().await.unwrap();
    assert_eq!(answer(&mut fine).await.unwrap().answers.len(), 2);
    it.server.stop().await;
}

#[tokio::test]
async fn connections_with_and_without_tls_count_together() {
    let files = Files::new();
    files.issue("n1");
    let limits = DnsLimits { tcp_per_address: 2, ..DnsLimits::default() };
    let it = serve(Arc::new(files.load("n1.crt", "n1.key").unwrap()), &limits).await;
    let mut plain = TcpStream::connect(it.plain).await.unwrap();
    plain.write_all(&framed(&query(SHOP, RecordType::A))).await.unwrap();
    assert!(answer(&mut plain).await.is_some());
    let mut secured = files.connect(it.tls).await;
    secured.write_all(&framed(&query(SHOP, RecordType::A))).await.unwrap();
    secured.flush().await.unwrap();
    assert!(answer(&mut secured).await.is_some());
    for to in [it.plain, it.tls] {
        let mut third = TcpStream::connect(to).await.unwrap();
        assert_eq!(rest(&mut third).await, [0; 0]);
    }
    assert_eq!(it.responder.counts().tcp_refused, 2);
    it.server.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    files.issue("n1");
    files.issue("n2");
    std::fs::write(files.path("empty.crt"), "").unwrap();
    std::fs::write(files.path("torn.key"), "-----BEGIN PRIVATE KEY-----\n@@@@\n").unwrap();
    std::fs::write(files.path("junk.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(files.path("large.crt"), vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    for (cert, key, said) in [
        ("none.crt", "n1.key", &["dns_tls_cert", "none.crt", "No such file"][..]),
        ("n1.crt", "none.key", &["dns_tls_key", "none.key", "No such file"]),
        ("empty.crt", "n1.key", &["dns_tls_cert", "empty.crt", "no certificate"]),
        ("n1.key", "n1.key", &["dns_tls_cert", "n1.key", "no certificate"]),
        ("n1.crt", "n1.crt", &["dns_tls_key", "n1.crt", "no private key"]),
        ("n1.crt", "torn.key", &["dns_tls_key", "torn.key", "it should hold"]),
        ("junk.crt", "n1.key", &["dns_tls_cert", "junk.crt"]),
        ("large.crt", "n1.key", &["dns_tls_cert", "large.crt", "1 MiB"]),
        ("n1.crt", "n2.key", &["dns_tls_key", "n2.key", "does not belong", "n1.crt"]),
    ] {
        let error = files.load(cert, key).expect_err(cert);
        for part in said {
            assert!(error.contains(part), "{cert} {key}: {error}");
        }
        let secret = std::fs::read_to_string(files.path("n1.key")).unwrap();
        assert!(secret.lines().filter(|l| !l.starts_with("---")).all(|l| !error.contains(l)), "a key is not repeated");
    }
}

#[tokio::test]
async fn new_connections_get_the_certificate_that_is_there_now() {
    let files = Files::new();
    let before = files.issue("n1");
    let identity = Arc::new(files.load("n1.crt", "n1.key").unwrap());
    let it = serve(Arc::clone(&identity), &DnsLimits::default()).await;
    let shown = async || files.connect(it.tls).await.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown().await, before);
    assert!(!identity.reload().unwrap(), "nothing has changed");
    std::fs::write(files.path("n1.key"), "half a key").unwrap();
    assert!(identity.reload().unwrap_err().to_string().contains("n1.key"));
    assert_eq!(shown().await, before, "what was sound stays in force");
    let after = files.issue("n1");
    assert!(identity.reload().unwrap());
    assert_eq!(shown().await, after);
    it.server.stop().await;
}
