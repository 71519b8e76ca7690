//! The TLS side of a request: whose certificates are good, and under which name.
//!
//! Invariants: rustls with ring alone, and no roots of the platform: what is not signed by the CA file is refused,
//! unless the spec says by name that anything goes. The CA file is read again for each handshake, so that a new one
//! needs no restart. Not here: certificates of clients, which nobody is asked for.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_name,
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
        server::ParsedCertificate,
    },
};

use super::AskError;
use crate::model::{CheckTls, Trust, health_check::without_port};

/// Largest CA file.
const MAX_FILE: u64 = 1 << 20;

type Read = (Vec<u8>, Arc<ClientConfig>);

/// How a spec's instances are spoken to.
#[derive(derive_more::Debug)]
pub struct Tls {
    trust: Trust,
    name: Option<String>,
    // The CA file as it was last read, and what was made of it.
    #[debug(skip)]
    made: Mutex<Option<Read>>,
}

impl Tls {
    /// As a check says; without a server's name of its own the host is it.
    pub fn new(tls: &CheckTls, host: Option<&str>) -> Self {
        let name = tls.server_name.clone().or_else(|| host.map(|h| without_port(h).to_owned()));
        Self { trust: tls.trust.clone(), name, made: Mutex::default() }
    }

    /// Makes the handshake.
    pub async fn connect<S>(&self, at: SocketAddr, stream: S) -> Result<TlsStream<S>, AskError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.name {
            Some(name) => ServerName::try_from(name.clone()).map_err(|_| AskError::Name(name.clone()))?,
            None => ServerName::IpAddress(at.ip().into()),
        };
        let connector = TlsConnector::from(self.config().await?);
        connector.connect(name.clone(), stream).await.map_err(|e| {
            let why = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match why {
                Some(rustls::Error::InvalidMessage(_)) => AskError::SpeaksClear,
                Some(bad @ rustls::Error::InvalidCertificate(_)) => {
                    let trusted = match &self.trust {
                        Trust::CaFile(path) => format!("ca_file {path}"),
                        Trust::Anyone => "insecure_skip_verify".into(),
                    };
                    AskError::Handshake(format!("{bad} (health.tls: {trusted}, server_name {})", name.to_str()))
                }
                Some(other) => AskError::Handshake(other.to_string()),
                None => AskError::ClosedTls(e.to_string()),
            }
        })
    }

    /// What it trusts, as the file says now.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, AskError> {
        let Trust::CaFile(path) = &self.trust else { return self.made(Vec::new(), anyone) };
        let bad = |problem: String| AskError::Trust { path: path.clone(), problem };
        let size = tokio::fs::metadata(path).await.map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_FILE {
            return Err(bad("is larger than 1 MiB".into()));
        }
        let pem = tokio::fs::read(path).await.map_err(|e| bad(e.to_string()))?;
        self.made(pem, |pem| signed_by(pem).map_err(bad))
    }

    /// What was made of these bytes before, or is made of them now.
    fn made(
        &self,
        bytes: Vec<u8>,
        make: impl FnOnce(&[u8]) -> Result<Arc<ClientConfig>, AskError>,
    ) -> Result<Arc<ClientConfig>, AskError> {
        let mut made = self.made.lock();
        if let Some((before, config)) = made.as_ref()
            && *before == bytes
        {
            return Ok(Arc::clone(config));
        }
        let config = make(&bytes)?;
        *made = Some((bytes, Arc::clone(&config)));
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn signed_by(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let (mut roots, mut own) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| format!("is not PEM: {e}"))?;
        own.push(certificate.clone());
        roots.add(certificate).map_err(|e| format!("holds a certificate that cannot be used: {e}"))?;
    }
    if own.is_empty() {
        return Err("holds no certificate (-----BEGIN CERTIFICATE-----)".into());
    }
    let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let signed = signed.map_err(|e| e.to_string())?;
    config_with(Some(Trusted { signed, own }))
}

fn anyone(_: &[u8]) -> Result<Arc<ClientConfig>, AskError> {
    config_with(None).map_err(AskError::Handshake)
}

fn config_with(trusted: Option<Trusted>) -> Result<Arc<ClientConfig>, String> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let verifier = Arc::new(Verifier { provider, trusted });
    let builder = builder.map_err(|e| e.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Takes what one of the certificates has signed, and these certificates themselves: a certificate that its server
/// signed for itself is mostly marked as a CA's, which webpki takes for nothing else.
#[derive(Debug)]
struct Trusted {
    signed: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

/// Takes certificates as trusted, or any if nothing says which; that the server has its key is checked in both cases.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Option<Trusted>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(Trusted { signed, own }) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // "A CA's certificate is used as a server's" comes after the check of its time and before that of its name.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if own.iter().any(|c| c.as_ref() == end_entity.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
