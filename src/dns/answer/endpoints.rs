//! What a name asks for, whether it exists, and which endpoints go into one answer.

use super::*;

/// What of a service's records a question wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dns) enum Wanted<'a> {
    /// The name exists, and has nothing of the kind.
    Nothing,
    /// The TXT of `_rollout`.
    Status,
    /// Addresses of a set.
    Addresses(Select<'a>, Sibling),
    /// SRV of a set and port.
    Srv(Select<'a>, &'a str),
}

/// What a question about an existing name of the service wants.
pub(in crate::dns) fn wanted<'a>(site: &'a Site, what: &What<'a>, kind: RecordType) -> Wanted<'a> {
    match (what, kind) {
        (What::Status, RecordType::TXT) => Wanted::Status,
        (What::Set(Select::Mix), RecordType::A | RecordType::AAAA)
        | (What::Set(Select::Instance(_)), RecordType::SRV) => Wanted::Nothing,
        (What::Set(set), RecordType::A) => Wanted::Addresses(*set, Sibling::A),
        (What::Set(set), RecordType::AAAA) => Wanted::Addresses(*set, Sibling::Aaaa),
        (What::Set(set), RecordType::SRV) => match site.default_port.as_deref() {
            Some(port) => Wanted::Srv(*set, port),
            None => Wanted::Nothing,
        },
        (What::Port { set, port, .. }, RecordType::SRV) => Wanted::Srv(*set, port),
        (What::Set(_) | What::Port { .. } | What::Proto { .. } | What::Status, _) => Wanted::Nothing,
    }
}

/// Whether the site has what a name asks for.
pub(in crate::dns) fn exists(site: &Site, what: &What<'_>) -> bool {
    match what {
        What::Status => true,
        What::Set(set) => set_exists(site, *set),
        What::Proto { set, proto } => named_ports(site, *set) && site.ports.iter().any(|(_, p)| p == proto),
        What::Port { set, port, proto } => {
            named_ports(site, *set) && site.ports.iter().any(|(n, p)| n == port && p == proto)
        }
    }
}

pub(in crate::dns) fn set_exists(site: &Site, set: Select<'_>) -> bool {
    match set {
        Select::Policy | Select::Arm(_) | Select::Active | Select::Preview | Select::Key(_) | Select::Mix => true,
        Select::Version(slug) => site.versions.contains_key(slug),
        Select::Instance(id) => site.instances.contains_key(&id),
    }
}

/// Whether names of ports stand below the set: an instance is a target, and has none.
pub(in crate::dns) fn named_ports(site: &Site, set: Select<'_>) -> bool {
    match set {
        Select::Instance(_) => false,
        Select::Policy
        | Select::Arm(_)
        | Select::Active
        | Select::Preview
        | Select::Key(_)
        | Select::Mix
        | Select::Version(_) => set_exists(site, set),
    }
}

/// Every instance of every version that has a weight, with its own weight. Only proportions count (RFC 2782), and
/// proxies keep few of the sixteen bits (HAProxy eight), so the largest weight is all of them.
pub(in crate::dns) fn mix(site: &Site) -> Vec<(&Endpoint, u16)> {
    let weighted = site.arms.iter().filter(|arm| arm.bps > 0 && !arm.endpoints.is_empty());
    let arms: Vec<_> = weighted.map(|arm| (arm, u128::from(arm.bps), arm.endpoints.len() as u128)).collect();
    // An instance's share is its version's by the number of instances; a / b > c / d without fractions.
    let Some(&(_, most, among)) = arms.iter().max_by(|(_, a, b), (_, c, d)| (a * d).cmp(&(c * b))) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (arm, bps, n) in arms {
        let weight = (65_535 * bps * among + most * n / 2) / (most * n);
        // At least 1: a weight of 0 would mean "hardly ever" to a client (RFC 2782), and the route says otherwise.
        let weight = u16::try_from(weight).unwrap_or(u16::MAX).max(1);
        all.extend(arm.endpoints.iter().map(|endpoint| (endpoint, weight)));
    }
    all.shuffle(&mut rand::rng());
    all
}

/// As many as an answer names, each equally likely, in random order.
pub(in crate::dns) fn sample<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> Vec<&'e Endpoint> {
    let mut all: Vec<&Endpoint> = endpoints.collect();
    let n = all.partial_shuffle(&mut rand::rng(), MAX_ENDPOINTS).0.len();
    // The shuffled part stands at the end.
    all.split_off(all.len() - n)
}

pub(in crate::dns) fn is(kind: RecordType, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => kind == RecordType::A,
        IpAddr::V6(_) => kind == RecordType::AAAA,
    }
}

pub(in crate::dns) fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}
