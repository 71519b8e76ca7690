//! Reads a query name into what it asks for. Grammar only: whether the thing exists is `answer`'s.
//!
//! `[_port._proto.][prefix.]S.E.svc.Z`, `_rollout.S.E.svc.Z`, `nsN.Z`, `apiN.Z`, `_api._tcp.Z`, `_dns-version.Z` and
//! the apex. Labels come in lower case (RFC 4343). A prefix that is not in the grammar is [`QueriedName::Nothing`], so
//! NXDOMAIN. Not here: reverse names.

use crate::{model::InstanceId, state::Role, traffic::Key};

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueriedName<'a> {
    /// A name outside the zone.
    Outside,
    /// The zone itself.
    Apex,
    /// `nsN.Z`.
    NameServer(u64),
    /// `apiN.Z`: where a node's API listens.
    ApiHost(u64),
    /// `_api._tcp.Z`: the API of every node.
    Api,
    /// `_dns-version.Z`: the version of these names.
    Schema,
    /// `_tcp.Z`, an empty non-terminal.
    ApiProto,
    /// `svc.Z`, an empty non-terminal.
    Services,
    /// `E.svc.Z`, an empty non-terminal.
    Environment(&'a str),
    /// Something of a service.
    Service { environment: &'a str, service: &'a str, what: What<'a> },
    /// A name of the zone that no grammar covers.
    Nothing,
}

/// What of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// Addresses, or SRV of the default port.
    Set(Select<'a>),
    /// SRV of a named port: `_http._tcp`.
    Port { set: Select<'a>, port: &'a str, proto: &'a str },
    /// `_tcp` alone, an empty non-terminal.
    Proto { set: Select<'a>, proto: &'a str },
    /// `_rollout`.
    Status,
}

/// Which instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select<'a> {
    /// By the traffic policy.
    Policy,
    /// Of an arm, whatever version it runs.
    Arm(Role),
    /// What a switch has made active.
    Active,
    /// What waits to become active, and never what is.
    Preview,
    /// By the traffic policy, keyed: the same key, the same version. A tenant is a key like any other until tenants are
    /// known.
    Key(&'a str),
    /// Of a version, by slug.
    Version(&'a str),
    Instance(InstanceId),
    /// All, with weights.
    Mix,
}

/// Reads a name's labels, leftmost first, in lower case.
pub(super) fn parse<'a>(labels: &[&'a str], zone: &[String]) -> QueriedName<'a> {
    let Some(split) = labels.len().checked_sub(zone.len()) else { return QueriedName::Outside };
    let (own, suffix) = labels.split_at(split);
    if !suffix.iter().zip(zone).all(|(a, b)| a == b) {
        return QueriedName::Outside;
    }
    match own {
        [] => QueriedName::Apex,
        ["svc"] => QueriedName::Services,
        ["_tcp"] => QueriedName::ApiProto,
        ["_api", "_tcp"] => QueriedName::Api,
        ["_dns-version"] => QueriedName::Schema,
        [environment, "svc"] => QueriedName::Environment(environment),
        [front @ .., service, environment, "svc"] => match what(front) {
            Some(what) => QueriedName::Service { environment, service, what },
            None => QueriedName::Nothing,
        },
        [host] => match (numbered(host, "ns"), numbered(host, "api")) {
            (Some(n), _) => QueriedName::NameServer(n),
            (None, Some(n)) => QueriedName::ApiHost(n),
            (None, None) => QueriedName::Nothing,
        },
        [..] => QueriedName::Nothing,
    }
}

/// Reads what stands before a service's name: a prefix, a port, or both; `None`: no name begins so.
pub(super) fn what<'a>(front: &[&'a str]) -> Option<What<'a>> {
    match front {
        [] => Some(What::Set(Select::Policy)),
        ["_rollout"] => Some(What::Status),
        [proto] if is_proto(proto) => Some(What::Proto { set: Select::Policy, proto }),
        [set] => Some(What::Set(select(set)?)),
        [port, proto] if is_proto(proto) => port_of(Select::Policy, port, proto),
        [proto, set] if is_proto(proto) => Some(What::Proto { set: select(set)?, proto }),
        [port, proto, set] if is_proto(proto) => port_of(select(set)?, port, proto),
        [..] => None,
    }
}

fn port_of<'a>(set: Select<'a>, port: &'a str, proto: &'a str) -> Option<What<'a>> {
    Some(What::Port { set, port: port.strip_prefix('_')?, proto })
}

fn is_proto(label: &str) -> bool {
    label == "_tcp" || label == "_udp"
}

/// How names say a role, and what it means.
pub(super) fn label_of(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Stable => ("stable", "the released version"),
        Role::Candidate => ("canary", "the version that is rolled out"),
        Role::Previous => ("previous", "the version before"),
    }
}

fn select(label: &str) -> Option<Select<'_>> {
    if let Some(role) = Role::ALL.iter().find(|role| label_of(**role).0 == label) {
        return Some(Select::Arm(*role));
    }
    match label {
        "mix" => Some(Select::Mix),
        "active" => Some(Select::Active),
        "preview" => Some(Select::Preview),
        other => match other.split_once('-')? {
            ("v", slug) => Some(Select::Version(slug)),
            // One spelling a thing: `i-059-0` is not the name of 59-0.
            ("i", id) => id.parse().ok().filter(|p: &InstanceId| p.to_string() == id).map(Select::Instance),
            ("k" | "t", key) if Key::new(key).is_ok() => Some(Select::Key(key)),
            (_, _) => None,
        },
    }
}

fn numbered(label: &str, prefix: &str) -> Option<u64> {
    let n = label.strip_prefix(prefix)?;
    n.parse().ok().filter(|p: &u64| p.to_string() == n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str) -> QueriedName<'_> {
        let labels: Vec<&str> = name.split('.').collect();
        parse(&labels, &["z".into(), "internal".into()])
    }

    fn of<'a>(what: What<'a>) -> QueriedName<'a> {
        QueriedName::Service { environment: "e", service: "s", what }
    }

    #[test]
    fn the_grammar() {
        assert_eq!(ask("z.internal"), QueriedName::Apex);
        assert_eq!(ask("ns12.z.internal"), QueriedName::NameServer(12));
        assert_eq!(ask("svc.z.internal"), QueriedName::Services);
        assert_eq!(ask("e.svc.z.internal"), QueriedName::Environment("e"));
        assert_eq!(ask("s.e.svc.z.internal"), of(What::Set(Select::Policy)));
        assert_eq!(ask("preview.s.e.svc.z.internal"), of(What::Set(Select::Preview)));
        assert_eq!(ask("canary.s.e.svc.z.internal"), of(What::Set(Select::Arm(Role::Candidate))));
        assert_eq!(ask("k-a-b_c.s.e.svc.z.internal"), of(What::Set(Select::Key("a-b_c"))));
        assert_eq!(ask("t-acme.s.e.svc.z.internal"), of(What::Set(Select::Key("acme"))));
        assert_eq!(ask("_api._tcp.z.internal"), QueriedName::Api);
        assert_eq!(ask("_tcp.z.internal"), QueriedName::ApiProto);
        assert_eq!(ask("_dns-version.z.internal"), QueriedName::Schema);
        assert_eq!(ask("api3.z.internal"), QueriedName::ApiHost(3));
        assert_eq!(ask("v-1-0-0.s.e.svc.z.internal"), of(What::Set(Select::Version("1-0-0"))));
        let id = InstanceId { index: 59, ordinal: 0 };
        assert_eq!(ask("i-59-0.s.e.svc.z.internal"), of(What::Set(Select::Instance(id))));
        assert_eq!(ask("_rollout.s.e.svc.z.internal"), of(What::Status));
        assert_eq!(ask("_tcp.s.e.svc.z.internal"), of(What::Proto { set: Select::Policy, proto: "_tcp" }));
        let port = |set| of(What::Port { set, port: "http", proto: "_tcp" });
        assert_eq!(ask("_http._tcp.s.e.svc.z.internal"), port(Select::Policy));
        assert_eq!(ask("_http._tcp.mix.s.e.svc.z.internal"), port(Select::Mix));
    }

    #[test]
    fn what_is_no_name() {
        for outside in ["internal", "example.com", "xz.internal", ""] {
            assert_eq!(ask(outside), QueriedName::Outside, "{outside}");
        }
        for nothing in [
            "x.z.internal",
            "ns01.z.internal",
            "x.ns1.z.internal",
            "api01.z.internal",
            "_api.z.internal",
            "_api._udp.z.internal",
            "k-.s.e.svc.z.internal",
            "t-.s.e.svc.z.internal",
            "k-a b.s.e.svc.z.internal",
            "kk-a.s.e.svc.z.internal",
            "i-059-0.s.e.svc.z.internal",
            "i-.s.e.svc.z.internal",
            "x.s.e.svc.z.internal",
            "http._tcp.s.e.svc.z.internal",
            "_http._sctp.s.e.svc.z.internal",
            "a.b.c.d.s.e.svc.z.internal",
        ] {
            assert_eq!(ask(nothing), QueriedName::Nothing, "{nothing}");
        }
    }
}
