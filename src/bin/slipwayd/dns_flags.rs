//! The flags of a node's DNS. What they mean stands with the settings in `config`; not here: anything that is done with them.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use slipway::{config::NodeLayer, model::Prefix};

use super::given;

/// Flags that are laid over the file's settings.
#[derive(Args)]
pub struct DnsFlags {
    /// Where its DNS over TLS listens; without it there is none.
    #[arg(long)]
    dns_tls_listen: Option<SocketAddr>,
    /// Certificate of DNS over TLS (PEM), followed by those of its issuers.
    #[arg(long)]
    dns_tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM).
    #[arg(long)]
    dns_tls_key: Option<PathBuf>,
    /// Range of addresses whose reverse names DNS answers; may be repeated.
    #[arg(long)]
    dns_reverse: Vec<Prefix>,
    /// Answers a second and network over UDP; 0: no limit.
    #[arg(long)]
    dns_rate_answers: Option<u32>,
    /// NXDOMAIN and empty answers a second and network over UDP; 0: no limit.
    #[arg(long)]
    dns_rate_negative: Option<u32>,
    /// Errors a second and network over UDP; 0: no limit.
    #[arg(long)]
    dns_rate_errors: Option<u32>,
    /// Each so-many-th answer over the rate is sent short; 0: none.
    #[arg(long)]
    dns_rate_slip: Option<u32>,
    /// Range of addresses that the rates do not hold for; may be repeated.
    #[arg(long)]
    dns_rate_exempt: Vec<Prefix>,
    /// Secret of DNS cookies, 32 hexadecimal digits; may be repeated. Others can read a command line: better in the file.
    #[arg(long)]
    dns_cookie_secret: Vec<String>,
}

impl DnsFlags {
    /// Writes what was given into a layer.
    pub fn lay(self, layer: &mut NodeLayer) {
        layer.dns_tls_listen = self.dns_tls_listen.map(Some);
        layer.dns_tls_cert = self.dns_tls_cert.map(Some);
        layer.dns_tls_key = self.dns_tls_key.map(Some);
        layer.dns_reverse = given(self.dns_reverse);
        layer.dns_rate_answers = self.dns_rate_answers;
        layer.dns_rate_negative = self.dns_rate_negative;
        layer.dns_rate_errors = self.dns_rate_errors;
        layer.dns_rate_slip = self.dns_rate_slip;
        layer.dns_rate_exempt = given(self.dns_rate_exempt);
        layer.dns_cookie_secrets = given(self.dns_cookie_secret);
    }
}
