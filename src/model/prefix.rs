//! A range of IP addresses as a prefix, such as `10.0.0.0/8`: for settings. No bit may be set behind the prefix.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de};

use super::ModelError;

/// A prefix of IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    ip: IpAddr,
    len: u32,
}

impl Prefix {
    /// Its first address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its length.
    pub fn bits(&self) -> u32 {
        self.len
    }

    /// Whether an address is in it; an IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => high(u128::from(u32::from(a) ^ u32::from(b)) << 96, self.len) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => high(u128::from(a) ^ u128::from(b), self.len) == 0,
            (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => false,
        }
    }
}

/// The first `len` bits.
fn high(bits: u128, len: u32) -> u128 {
    bits.checked_shr(128_u32.saturating_sub(len)).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let read = || {
            let (ip, len) = match s.trim().split_once('/') {
                Some((ip, len)) => (ip.parse::<IpAddr>().ok()?, Some(len.parse::<u8>().ok()?)),
                None => (s.trim().parse::<IpAddr>().ok()?, None),
            };
            let (bits, width) = match ip {
                IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
                IpAddr::V6(a) => (u128::from(a), 128),
            };
            let len = u32::from(len.unwrap_or(width));
            let clean = bits.trailing_zeros() >= 128_u32.saturating_sub(len);
            (len <= u32::from(width) && clean).then_some(Self { ip, len })
        };
        read().ok_or_else(|| ModelError::BadValue {
            value: s.into(),
            expected: "a range of addresses such as 10.0.0.0/8 or fd00::/8, with no bit set behind the prefix",
        })
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_they_cover() {
        let holds = |p: &str, ip: &str| p.parse::<Prefix>().unwrap().contains(ip.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "172.17.0.0/12", "fd00::/129", "x/8", "10.0.0.0/-1", "", "::1/0"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!("172.16.0.0/12".parse::<Prefix>().unwrap().to_string(), "172.16.0.0/12");
    }
}
