//! The health check of a spec: what is asked, over what, and which answers pass. Complete and checked, as the spec is.
//!
//! Invariants: a check over TLS says whom it trusts (there are no roots of the platform), so "https without a CA" has
//! no form here; a rule of statuses is a rising list of ranges without overlap. Not here: asking (`crate::ask`),
//! hysteresis (the agent).

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{ModelError, Period, Protocol, fields};

/// Longest text of a name or path.
const MAX_TEXT: usize = 256;
/// What to write for statuses.
const WRITE: &str = "write statuses and ranges of them, such as 200-399 or 200,204,301-308";
/// Most ranges of statuses.
const MAX_RANGES: usize = 32;

fields! {
    json
    /// The HTTP health check, with hysteresis.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HealthCheck {
        /// Path asked with GET.
        1 pub http: String,
        /// Port's name; `None`: the first port.
        2 pub port: Option<String>,
        /// The Host header; `None`: address and port.
        3 pub host: Option<String>,
        /// Asked over TLS; `None`: in the clear.
        4 pub tls: Option<CheckTls>,
        /// Statuses that pass.
        5 [required] pub status: StatusRule,
        /// Time between checks.
        6 pub interval: Period,
        /// Longest time a check may take.
        7 pub timeout: Period,
        /// Passes in a row that make it passing.
        8 pub healthy_after: u32,
        /// Failures in a row that make it failing.
        9 pub unhealthy_after: u32,
        /// Longest time from start to the first pass.
        10 pub start_within: Period,
    }
}

fields! {
    json
    /// How an instance that speaks TLS is asked.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CheckTls {
        /// Whose certificates are good.
        1 [required] pub trust: Trust,
        /// The name that is asked for and that the certificate must have; `None`: the host without its port, else the
        /// address.
        2 pub server_name: Option<String>,
    }
}

/// Whose certificates are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Those that one of the certificates of this PEM file has signed, or that stand in it; a path on the worker.
    CaFile(String),
    /// Anybody's: the check then says that somebody answers over TLS, not who.
    Anyone,
}

/// Statuses that pass: ranges, rising.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRule(Vec<(u16, u16)>);

impl Default for StatusRule {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl StatusRule {
    /// Whether a status passes.
    pub fn takes(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }

    fn check(&self) -> Result<(), String> {
        let say = |what: String| Err(format!("{what}: {WRITE}"));
        if self.0.is_empty() || self.0.len() > MAX_RANGES {
            return say(format!("needs 1 to {MAX_RANGES} statuses or ranges"));
        }
        for (low, high) in &self.0 {
            if low > high || *low < 200 || *high > 599 {
                return say(format!("{low}-{high} is not a range from 200 to 599"));
            }
        }
        match self.0.windows(2).find(|w| w[0].1 >= w[1].0) {
            Some(w) => say(format!("{} comes after {}", w[1].0, w[0].1)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StatusRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (low, high)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for StatusRule {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let bad = |why: String| ModelError::field("health.status", why);
        let number = |s: &str| {
            let digits = s.trim();
            let is_status = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse::<u16>().ok().filter(|_| is_status);
            number.ok_or_else(|| bad(format!("{digits:?} is not a status: {WRITE}")))
        };
        let one = |item: &str| {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            Ok((number(low)?, number(high)?))
        };
        let rule = Self(text.split(',').map(one).collect::<Result<_, ModelError>>()?);
        rule.check().map_err(bad)?;
        Ok(rule)
    }
}

/// Refuses what is no path of a request; the error names the field.
pub(super) fn check_path(field: &str, path: &str) -> Result<(), ModelError> {
    if path.starts_with('/') && path.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(ModelError::field(field, format!("{path:?} is not a path starting with / of at most {MAX_TEXT} characters")))
}

/// Whether a text can stand in a header or a certificate as a host, with a port or without.
fn is_host(text: &str) -> bool {
    let is_port = |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0);
    let label = |l: &str| {
        let named = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=63).contains(&l.len()) && l.bytes().all(named) && !l.starts_with('-') && !l.ends_with('-')
    };
    let is_name = |n: &str| n.strip_suffix('.').unwrap_or(n).split('.').all(label);
    if text.len() > MAX_TEXT {
        return false;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((inner, behind)) = rest.split_once(']') else { return false };
        return inner.parse::<Ipv6Addr>().is_ok()
            && (behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port));
    }
    match text.split_once(':') {
        _ if text.parse::<IpAddr>().is_ok() => true,
        Some((name, port)) => is_name(name) && is_port(port),
        None => is_name(text),
    }
}

/// A host without the port behind it and without the brackets of IPv6.
pub fn without_port(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        Some(_) | None => host,
    }
}

impl HealthCheck {
    /// Checks every range; the error names the field.
    pub fn check(&self, ports: &BTreeMap<String, (u16, Protocol)>) -> Result<(), ModelError> {
        let err = |f: &str, p: String| Err(ModelError::field(f, p));
        check_path("health.http", &self.http)?;
        if let Some(p) = self.port.as_ref().filter(|p| !ports.contains_key(*p)) {
            return err("health.port", format!("{p:?} is not one of the ports"));
        }
        if let Some(host) = self.host.as_ref().filter(|h| !is_host(h)) {
            return err(
                "health.host",
                format!("{host:?} is not a host: write one such as shop.example or shop.example:8080"),
            );
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        self.status.check().or_else(|e| err("health.status", e))?;
        if self.interval < Period(100) || self.interval > Period::minutes(10) {
            return err("health.interval", "must be from 100ms to 10m".into());
        }
        if self.timeout < Period(10) || self.timeout > Period::minutes(1) {
            return err("health.timeout", "must be from 10ms to 1m".into());
        }
        if !(1..=100).contains(&self.healthy_after) || !(1..=100).contains(&self.unhealthy_after) {
            return err("health.healthy_after", "healthy_after and unhealthy_after must be from 1 to 100".into());
        }
        if self.start_within < Period(100) || self.start_within > Period::minutes(60) {
            return err("health.start_within", "must be from 100ms to 1h".into());
        }
        Ok(())
    }
}

impl CheckTls {
    fn check(&self) -> Result<(), ModelError> {
        let err = |f: &str, p: String| Err(ModelError::field(f, p));
        match &self.trust {
            Trust::CaFile(path) if !path.starts_with('/') || path.len() > 4096 => {
                return err("health.tls.ca_file", format!("{path:?} is not an absolute path on the worker"));
            }
            Trust::CaFile(_) | Trust::Anyone => {}
        }
        match &self.server_name {
            Some(name) if !is_host(name) || (without_port(name) != name && name.parse::<IpAddr>().is_err()) => {
                err("health.tls.server_name", format!("{name:?} is not a name or an IP address, without a port"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_written_and_refused_by_name() {
        for (text, takes, refuses) in [
            ("200-399", &[200, 204, 301, 399][..], &[199, 400, 503][..]),
            ("200, 204 ,301-308", &[200, 204, 301, 308], &[201, 300, 309]),
            ("429", &[429], &[200]),
        ] {
            let rule: StatusRule = text.parse().unwrap();
            assert!(takes.iter().all(|s| rule.takes(*s)) && !refuses.iter().any(|s| rule.takes(*s)), "{text}");
            assert_eq!(rule.to_string().parse::<StatusRule>().unwrap(), rule);
        }
        assert_eq!(StatusRule::default().to_string(), "200-399");
        for bad in [
            "",
            "2xx",
            "200-",
            "399-200",
            "99",
            "100-199",
            "200,,204",
            "204,200",
            "200-300,250",
            "600",
            "+20",
            "200-700",
        ] {
            let said = bad.parse::<StatusRule>().unwrap_err().to_string();
            assert!(said.starts_with("health.status: ") && said.contains("200,204,301-308"), "{bad:?}: {said}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_that_can_be() {
        for good in ["shop", "shop.example.", "a_b.example:8080", "10.0.0.1:80", "::1", "[::1]", "[::1]:65535"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ":", ":80", "[::1", "[]", "[::1]80", "a:0", "a:65536", "a:+1", "a..b", "-a", "a b", "[shop]:80"]
        {
            assert!(!is_host(bad), "{bad}");
        }
        assert!(!is_host(&"a".repeat(64)) && !is_host(&"a.".repeat(200)));
    }

    #[test]
    fn a_host_loses_its_port_but_an_address_keeps_its_colons() {
        let all =
            [("a.b", "a.b"), ("a.b:80", "a.b"), ("[::1]:80", "::1"), ("::1", "::1"), ("127.0.0.1:80", "127.0.0.1")];
        for (host, name) in all {
            assert_eq!(without_port(host), name);
        }
    }
}
