//! Reverse zones: which instance has an address. PTR to `i-ID` names, from the addresses that the view knows.
//!
//! We are the authority for whole zones only, so a prefix that ends inside an octet (or a nibble of IPv6) becomes
//! several. Names below a zone that lead to an address are empty non-terminals, others do not exist. Not here: which
//! zones, which is a setting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType, rdata::PTR},
};

use super::answer::{Context, Reply};
use crate::model::{InstanceId, Prefix};

/// Instances of one address that are named, as in other answers.
const MAX_NAMES: usize = 8;

/// The zones by their labels, leftmost first, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReverseZones(Vec<Vec<String>>);

impl ReverseZones {
    /// The zones of prefixes; without any there are no reverse names.
    pub fn new(prefixes: &[Prefix]) -> Self {
        let mut zones = Vec::new();
        for zone in prefixes.iter().flat_map(zones_of) {
            if !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        Self(zones)
    }

    /// The labels of the largest zone that a name is in.
    pub(super) fn zone_of(&self, labels: &[&str]) -> Option<&[String]> {
        let within = |zone: &&Vec<String>| {
            labels.len().checked_sub(zone.len()).is_some_and(|at| labels[at..].iter().zip(*zone).all(|(a, b)| a == b))
        };
        self.0.iter().filter(within).min_by_key(|z| z.len()).map(Vec::as_slice)
    }
}

/// The zones that make up a prefix.
fn zones_of(prefix: &Prefix) -> Vec<Vec<String>> {
    // The address's leading steps (octets or nibbles) as numbers, and how many bits one has.
    let (steps, bits, base): (Vec<u8>, u32, u8) = match prefix.ip() {
        IpAddr::V4(a) => (a.octets().to_vec(), 8, 10),
        IpAddr::V6(a) => (a.octets().iter().flat_map(|o| [o >> 4, o & 15]).collect(), 4, 16),
    };
    let (full, spare) = (usize::try_from(prefix.bits() / bits).unwrap_or(0), prefix.bits() % bits);
    let (whole, rest) = steps.split_at(full.min(steps.len()));
    let last: Vec<Option<u8>> = match rest.first().filter(|_| spare > 0) {
        None => vec![None],
        Some(first) => (0..1_u8 << (bits - spare)).map(|n| Some(first | n)).collect(),
    };
    let label = |n: u8| if base == 10 { n.to_string() } else { format!("{n:x}") };
    let tail = if base == 10 { ["in-addr", "arpa"] } else { ["ip6", "arpa"] };
    let zone = |last: Option<u8>| {
        let steps = last.into_iter().chain(whole.iter().rev().copied());
        steps.map(label).chain(tail.map(String::from)).collect()
    };
    last.into_iter().map(zone).collect()
}

/// The first and the last address that a reverse name covers; they are the same for the name of one address.
fn range(labels: &[&str]) -> Option<(IpAddr, IpAddr)> {
    let number = |label: &&str, radix| {
        let n = u8::from_str_radix(label, radix).ok()?;
        // One spelling a number.
        let canonical = if radix == 10 { n.to_string() } else { format!("{n:x}") };
        (canonical == **label).then_some(n)
    };
    match labels {
        [steps @ .., "in-addr", "arpa"] if steps.len() <= 4 => {
            let (mut low, mut high) = ([0; 4], [u8::MAX; 4]);
            for (at, label) in steps.iter().rev().enumerate() {
                let n = number(label, 10)?;
                (low[at], high[at]) = (n, n);
            }
            Some((Ipv4Addr::from(low).into(), Ipv4Addr::from(high).into()))
        }
        [steps @ .., "ip6", "arpa"] if steps.len() <= 32 => {
            let (mut low, mut high) = (0_u128, u128::MAX);
            for (at, label) in steps.iter().rev().enumerate() {
                let n = number(label, 16).filter(|n| *n < 16)?;
                let shift = 124 - 4 * at;
                low |= u128::from(n) << shift;
                high &= !(u128::from(15 - n) << shift);
            }
            Some((Ipv6Addr::from(low).into(), Ipv6Addr::from(high).into()))
        }
        [..] => None,
    }
}

impl Context<'_> {
    /// A name outside the cluster's zone: of a reverse zone, or refused.
    pub(super) fn reverse(&self, name: &Name, labels: &[&str], kind: RecordType) -> Reply {
        let Some(zone) = self.reverse.zone_of(labels) else {
            return Reply::refusal(ResponseCode::Refused, Some((20, "not a name of this cluster")));
        };
        let apex = labels.len() == zone.len();
        if apex && matches!(kind, RecordType::SOA | RecordType::NS) {
            return self.apex(name, kind);
        }
        let origin = Name::from_ascii(format!("{}.", zone.join("."))).ok();
        let Some((low, high)) = range(labels) else { return self.absent(ResponseCode::NXDomain, origin) };
        let first = (low, InstanceId { index: 0, ordinal: 0 });
        let last = (high, InstanceId { index: u64::MAX, ordinal: u32::MAX });
        let mut found = self.view.addresses.range(first..=last).peekable();
        if !apex && found.peek().is_none() {
            return self.absent(ResponseCode::NXDomain, origin);
        }
        if kind == RecordType::ANY {
            return self.own(name, kind, Vec::new());
        }
        if low != high || kind != RecordType::PTR {
            return self.absent(ResponseCode::NoError, origin);
        }
        let answers = found.take(MAX_NAMES).filter_map(|((_, instance), of)| {
            let site = self.view.site(of.environment.as_str(), of.service.as_str())?;
            let ttl = site.instances.get(instance).map_or(0, |n| if n.lasting { site.pin_ttl } else { 0 });
            let target = self.under(&format!("i-{instance}.{}.{}.svc", of.service, of.environment))?;
            Some((ttl, target))
        });
        let found: Vec<(u32, Name)> = answers.collect();
        // One TTL a set (RFC 2181).
        let ttl = found.iter().map(|(ttl, _)| *ttl).min().unwrap_or(0);
        let record = |(_, target)| Record::from_rdata(name.clone(), ttl, RData::PTR(PTR(target)));
        Reply { shrinkable: true, ..self.positive(found.into_iter().map(record).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(of: &str) -> Vec<String> {
        zones_of(&of.parse().unwrap()).into_iter().map(|z| z.join(".")).collect()
    }

    #[test]
    fn a_prefix_is_whole_zones() {
        assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
        assert_eq!(zones("192.168.3.0/24"), ["3.168.192.in-addr.arpa"]);
        assert_eq!(zones("192.168.3.7/32"), ["7.3.168.192.in-addr.arpa"]);
        assert_eq!(zones("172.16.0.0/12").len(), 16);
        assert_eq!(zones("172.16.0.0/12")[15], "31.172.in-addr.arpa");
        assert_eq!(zones("fc00::/7"), ["c.f.ip6.arpa", "d.f.ip6.arpa"]);
        assert_eq!(zones("fd12::/16"), ["2.1.d.f.ip6.arpa"]);
        assert_eq!(zones("0.0.0.0/0"), ["in-addr.arpa"]);
        let twice = ["10.0.0.0/8", "10.0.0.0/8"].map(|p| p.parse().unwrap());
        assert_eq!(ReverseZones::new(&twice).0.len(), 1);
    }

    #[test]
    fn a_name_is_a_range() {
        let read =
            |name: &str| range(&name.split('.').collect::<Vec<_>>()).map(|(a, b)| (a.to_string(), b.to_string()));
        let both = |a: &str, b: &str| Some((a.to_string(), b.to_string()));
        assert_eq!(read("5.1.0.10.in-addr.arpa"), both("10.0.1.5", "10.0.1.5"));
        assert_eq!(read("0.10.in-addr.arpa"), both("10.0.0.0", "10.0.255.255"));
        assert_eq!(read("d.f.ip6.arpa"), both("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        let whole = format!("1.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(read(&whole), both("fd00::1", "fd00::1"));
        for bad in [
            "1.5.1.0.10.in-addr.arpa",
            "05.1.0.10.in-addr.arpa",
            "256.10.in-addr.arpa",
            "x.10.in-addr.arpa",
            "+1.10.in-addr.arpa",
            "10.d.f.ip6.arpa",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
