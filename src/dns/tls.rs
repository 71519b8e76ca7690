//! DNS over TLS (RFC 7858): the certificate and key that a listener shows, read from PEM files and read again when they
//! change.
//!
//! Invariants: a listener always has a certificate with its own key; what is wrong with new files leaves the old ones
//! in force, and is said once. Connections that are open keep what they began with. Not here: sockets and limits
//! (`server`); certificates of clients, which nobody is asked for.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::sleep;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{Error as PemError, PemObject as _},
        },
    },
};

/// The protocol's name in the handshake.
const ALPN: &[u8] = b"dot";
/// Largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key} {}: {source}", path.display())]
    Read {
        /// The setting that names it.
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{key} {}: {problem}", path.display())]
    File {
        /// The setting that names it.
        key: &'static str,
        path: PathBuf,
        /// What is wrong and what it should hold.
        problem: String,
    },
    #[error(
        "dns_tls_key {} does not belong to the first certificate of dns_tls_cert {}: give the key that it was issued for, and \
         the node's own certificate before those of its issuers",
        key.display(),
        cert.display()
    )]
    Mismatch {
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate cannot be used for another reason.
    #[error("dns_tls_cert {}: {source}", cert.display())]
    Unusable { cert: PathBuf, source: rustls::Error },
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its key, from two PEM files.
#[derive(derive_more::Debug)]
pub struct TlsIdentity {
    cert: PathBuf,
    key: PathBuf,
    // A key is not printed.
    #[debug(skip)]
    now: ArcSwap<(Pem, TlsAcceptor)>,
}

impl TlsIdentity {
    /// Reads and checks the files of `dns_tls_cert` and `dns_tls_key`.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = read(cert, key)?;
        let acceptor = acceptor(cert, key, &pem)?;
        Ok(Self { cert: cert.into(), key: key.into(), now: ArcSwap::from_pointee((pem, acceptor)) })
    }

    /// Reads the files again: whether they hold something new, which new connections get from now on.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pem = read(&self.cert, &self.key)?;
        if self.now.load().0 == pem {
            return Ok(false);
        }
        let acceptor = acceptor(&self.cert, &self.key, &pem)?;
        self.now.store(Arc::new((pem, acceptor)));
        Ok(true)
    }

    /// Looks at the files again and again, for as long as it is polled.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut said = None;
        loop {
            sleep(LOOK_EVERY).await;
            let this = Arc::clone(&self);
            let Ok(read) = tokio::task::spawn_blocking(move || this.reload()).await else { continue };
            match read {
                Ok(new) => {
                    said = None;
                    if new {
                        tracing::info!(cert = %self.cert.display(), "DNS over TLS has a new certificate");
                    }
                }
                // While both files are being replaced they do not fit for a moment; so the second look says it.
                Err(error) => {
                    let problem = error.to_string();
                    if said.as_ref() == Some(&(problem.clone(), false)) {
                        tracing::warn!(%error, "the files of DNS over TLS have changed; the certificate read before stays in use");
                        said = Some((problem, true));
                    } else if said.as_ref().is_none_or(|(before, _)| *before != problem) {
                        said = Some((problem, false));
                    }
                }
            }
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.now.load().1.clone()
    }
}

fn read(cert: &Path, key: &Path) -> Result<Pem, TlsError> {
    let one = |setting, path: &Path| {
        let wrong = |source| TlsError::Read { key: setting, path: path.into(), source };
        let file = std::fs::File::open(path).map_err(wrong)?;
        let mut bytes = Vec::new();
        let read = io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE + 1), &mut bytes).map_err(wrong)?;
        if read as u64 > MAX_FILE {
            let problem = "has more than 1 MiB, which is no certificate or key".into();
            return Err(TlsError::File { key: setting, path: path.into(), problem });
        }
        Ok(bytes)
    };
    Ok(Pem { cert: one("dns_tls_cert", cert)?, key: one("dns_tls_key", key)? })
}

fn acceptor(cert: &Path, key: &Path, pem: &Pem) -> Result<TlsAcceptor, TlsError> {
    let wrong = |setting, path: &Path, what: &str, e: Option<PemError>| {
        let problem = match e {
            None | Some(PemError::NoItemsFound) => format!("there is no {what} in it"),
            Some(PemError::MissingSectionEnd { .. }) => format!("it ends in the middle: it should hold a {what}"),
            // What was read is not repeated: it may be a key.
            Some(_) => format!("it cannot be read: it should hold a {what}"),
        };
        TlsError::File { key: setting, path: path.into(), problem }
    };
    let what = "certificate (PEM, `-----BEGIN CERTIFICATE-----`)";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.cert).collect();
    let chain = chain.map_err(|e| wrong("dns_tls_cert", cert, what, Some(e)))?;
    if chain.is_empty() {
        return Err(wrong("dns_tls_cert", cert, what, None));
    }
    let what = "private key without a passphrase (PEM, such as `-----BEGIN PRIVATE KEY-----`)";
    let secret = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|e| wrong("dns_tls_key", key, what, Some(e)))?;
    let unusable = |source| match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: cert.into(), key: key.into() },
        source => TlsError::Unusable { cert: cert.into(), source },
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
