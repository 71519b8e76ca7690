//! How an address of a node is written: `HOST:PORT`, an IPv6 address in brackets.
//!
//! Not here: looking names up, and which addresses may be used.

use std::net::{IpAddr, Ipv6Addr};

use super::ModelError;

/// Splits `HOST:PORT`; the host comes without brackets. Port 0 is none.
pub fn host_port(text: &str) -> Result<(&str, u16), ModelError> {
    let bad = || ModelError::BadValue {
        value: text.into(),
        expected: "HOST:PORT, such as 127.0.0.1:7652, n1.example:7652 or [::1]:7652",
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse::<u16>().ok().filter(|p| *p != 0 && !port.starts_with('+')).ok_or_else(bad)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|h| h.parse::<Ipv6Addr>().is_ok()).ok_or_else(bad)?,
        None if !host.contains(':') && is_host(host) => host,
        None => return Err(bad()),
    };
    Ok((host, port))
}

/// Whether a text is a host's name or IP address, without port and brackets.
pub fn is_host(text: &str) -> bool {
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let named = || text.len() <= 253 && text.split('.').all(label) && !text.split('.').all(digits);
    text.parse::<IpAddr>().is_ok() || named()
}

fn digits(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_nearly_one_is_refused() {
        assert_eq!(host_port("127.0.0.1:7652").unwrap(), ("127.0.0.1", 7652));
        assert_eq!(host_port("[::1]:7652").unwrap(), ("::1", 7652));
        assert_eq!(host_port("n1.example:1").unwrap(), ("n1.example", 1));
        for bad in [
            "127.0.0.1",
            "::1:7652",
            "::1",
            "[::1]",
            "[n1]:1",
            "n1:",
            "n1:0",
            "n1:65536",
            ":7652",
            "n1:+1",
            "a b:1",
            "127.0.0:1",
            "http://n1:1",
            "n1:1/",
            "",
        ] {
            assert!(host_port(bad).unwrap_err().to_string().contains("HOST:PORT"), "{bad}");
        }
        for (host, is) in [
            ("n1", true),
            ("::1", true),
            ("10.0.0.1", true),
            ("[::1]", false),
            ("n1:1", false),
            ("", false),
            ("10.0.0", false),
        ] {
            assert_eq!(is_host(host), is, "{host}");
        }
    }
}
