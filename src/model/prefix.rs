//! A range of IP addresses as a prefix, such as `10.0.0.0/8`: for settings. No bit may be set behind the prefix.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::ModelError;

/// A prefix of IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, derive_more::Display)]
pub struct Prefix(IpNet);

impl Prefix {
    /// Its first address.
    pub fn ip(&self) -> IpAddr {
        self.0.addr()
    }

    /// Its length.
    pub fn bits(&self) -> u32 {
        self.0.prefix_len().into()
    }

    /// Whether an address is in it; an IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl FromStr for Prefix {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let read = || {
            let net = match s.trim().split_once('/') {
                Some((ip, len)) => IpNet::new(ip.parse().ok()?, len.parse().ok()?).ok()?,
                None => IpNet::from(s.trim().parse::<IpAddr>().ok()?),
            };
            (net == net.trunc()).then_some(Self(net))
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
