//! Why a name is answered as it is: what its parts mean, which version it leads to and by what.
//!
//! Reads the view and the memo as an answer would and changes neither: no card is drawn, so a trace can be asked for as
//! often as one likes. Where the next answer is a draw it says from what. Not here: why an instance may be named or not
//! (`state` knows).

use std::net::IpAddr;

use super::{
    answer::exists,
    name::{QueriedName, Select, What, label_of, parse},
    respond::Responder,
    site::Site,
};
use crate::{
    model::{DeploymentId, InstanceId},
    state::{FencePoint, Role, RouteMode},
    traffic::{self, By, Key},
};

/// What a name leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The name in lower case.
    pub name: String,
    /// Its parts with what each means, from the left.
    pub parts: Vec<(String, String)>,
    /// `answer`, `nodata`, `nxdomain`, `refused` or `servfail`.
    pub outcome: &'static str,
    /// Why, in words.
    pub because: String,
    /// The index that is served.
    pub index: u64,
    /// The SOA's serial.
    pub serial: u64,
    /// Whose name it is.
    pub deployment: Option<DeploymentId>,
    /// The route's generation.
    pub generation: Option<FencePoint>,
    pub mode: Option<RouteMode>,
    /// TTL of answers, in seconds.
    pub ttl: u32,
    /// The arms in order: role, version, weight and endpoints that may be named.
    pub arms: Vec<TraceArm>,
    /// Slot of the key, from 0 to 9,999.
    pub slot: Option<u16>,
    /// The role of the arm that answers; none: it is drawn anew for each look-up, or the name is of no arm.
    pub chosen: Option<Role>,
    /// Endpoints that an answer may name, which has eight of them at most; of all versions that may be drawn while none
    /// is chosen.
    pub endpoints: Vec<(InstanceId, IpAddr)>,
}

/// One arm of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceArm {
    pub role: Role,
    pub version: String,
    /// Its weight in basis points.
    pub bps: u32,
    /// Cards of it in a full deck, and in what is left of the present one.
    pub cards: (u32, u32),
    /// Endpoints that may be named.
    pub endpoints: usize,
}

impl Responder {
    /// Explains the answer about a name, for a client when one is given.
    pub fn trace(&self, name: &str, from: Option<IpAddr>) -> Trace {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let view = self.store().view();
        let mut trace = Trace { name: name.clone(), index: view.index, serial: view.serial, ..Trace::default() };
        let Some(zone) = view.zone.as_ref().filter(|_| self.store().is_ready()) else {
            return trace.end("servfail", "the node is not ready: its view has not reached the cluster's state yet");
        };
        let labels: Vec<&str> = name.split('.').collect();
        let part = |label: &str, means: &str| (label.to_string(), means.to_string());
        let zone_name = zone.join(".");
        match parse(&labels, zone) {
            QueriedName::Outside if self.is_reverse(&labels) => {
                trace.parts.push(part(&name, "an address, in a reverse zone of this node"));
                trace.end("answer", "PTR to the i- names of the instances that have the address, if there are any")
            }
            QueriedName::Outside => {
                trace.end("refused", &format!("it is neither in {zone_name} nor in a reverse zone"))
            }
            QueriedName::Nothing => {
                trace.parts.push(part(&name, "no name that this zone can have"));
                trace.end("nxdomain", "its form is none of the zone's: see the table of names in docs/dns.md")
            }
            QueriedName::Apex
            | QueriedName::NameServer(_)
            | QueriedName::ApiHost(_)
            | QueriedName::Api
            | QueriedName::Schema
            | QueriedName::ApiProto => {
                trace.parts.push(part(&name, "the zone's own name: SOA, servers, API"));
                trace.end("answer", "from the zone's own records")
            }
            QueriedName::Services | QueriedName::Environment(_) => {
                trace.parts.push(part(&name, "a name that others stand below"));
                trace.end("nodata", "it has no records itself")
            }
            QueriedName::Service { environment, service, what } => {
                trace.parts = parts(&what, &labels);
                trace.parts.push(part(service, "the service"));
                trace.parts.push(part(environment, "the environment"));
                trace.parts.push(part(&format!("svc.{zone_name}"), "the zone's services"));
                match view.site(environment, service) {
                    Some(site) if exists(site, &what) => self.of_service(trace, site, &what, from),
                    Some(site) => {
                        trace.deployment = Some(site.id.clone());
                        trace.end("nxdomain", "the service exists, but has no such version, instance or port")
                    }
                    None => trace.end("nxdomain", &format!("there is no service {service} in {environment}")),
                }
            }
        }
    }

    fn of_service(&self, mut trace: Trace, site: &Site, what: &What<'_>, from: Option<IpAddr>) -> Trace {
        trace.deployment = Some(site.id.clone());
        trace.generation = site.route.as_ref().map(|r| r.generation);
        trace.mode = site.route.as_ref().map(|r| r.mode);
        let (full, left) = {
            let deck = site.deck.lock();
            (deck.counts().to_vec(), deck.left())
        };
        let card = |of: &[u32], n: usize| of.get(n).copied().unwrap_or(0);
        let arms = Role::ALL.iter().zip(&site.arms).enumerate();
        let arms = arms.filter_map(|(n, (role, arm))| {
            let version = arm.version.clone()?;
            let cards = (card(&full, n), card(&left, n));
            Some(TraceArm { role: *role, version, bps: arm.bps, cards, endpoints: arm.endpoints.len() })
        });
        trace.arms = arms.collect();
        let set = match what {
            What::Status => return trace.end("answer", "TXT: where the rollout stands, never cached"),
            What::Proto { .. } => return trace.end("nodata", "names of ports stand below it"),
            What::Set(set) | What::Port { set, .. } => *set,
        };
        let because = self.choose_for(&mut trace, site, set, from);
        let fails = trace.chosen.is_some_and(|role| {
            let policy = matches!(set, Select::Policy | Select::Key(_));
            site.arm(role).fails || site.strict && policy
        });
        if trace.endpoints.is_empty() && fails {
            return trace
                .end("servfail", &format!("{because}; too few of its instances pass, and the spec says to fail then"));
        }
        if trace.endpoints.is_empty() {
            return trace.end("nodata", &format!("{because}; nothing of it may be named now"));
        }
        trace.end("answer", &because)
    }

    /// Fills in what is chosen, and says why.
    fn choose_for(&self, trace: &mut Trace, site: &Site, set: Select<'_>, from: Option<IpAddr>) -> String {
        trace.ttl = site.route_ttl();
        let take = |trace: &mut Trace, role: Role| {
            trace.chosen = Some(role);
            trace.endpoints = site.arm(role).endpoints.iter().map(|e| (e.id, e.address)).collect();
        };
        let servable = |arm: usize| site.odds.may_be_chosen(arm);
        match set {
            Select::Arm(role) => {
                take(trace, role);
                "the arm that the name says".into()
            }
            Select::Active => {
                take(trace, site.active());
                "the arm that has the traffic".into()
            }
            Select::Preview => match site.preview() {
                Some(role) => {
                    take(trace, role);
                    "the candidate, which is not active".into()
                }
                None => "the candidate is active already, and preview never names that".into(),
            },
            Select::Key(key) => {
                let (Ok(key), Some(table)) = (Key::new(key), site.table()) else { return "there is no route".into() };
                let slot = key.slot(site.salt);
                trace.slot = Some(slot);
                let own = table.arm(slot);
                let Some(arm) = traffic::choose(By::Key(table, &key), &servable) else {
                    return "no version with a weight has anything to name".into();
                };
                take(trace, Role::ALL[arm]);
                if own == arm {
                    "the key in the name belongs to this version".into()
                } else {
                    "the key in the name belongs to a version with nothing to name, so it was hashed again".into()
                }
            }
            Select::Version(slug) => {
                trace.ttl = site.pin_ttl;
                let endpoints = site.versions.get(slug).into_iter().flat_map(|p| p.endpoints.iter());
                trace.endpoints = endpoints.map(|e| (e.id, e.address)).collect();
                "the version that the name says, whatever the weights".into()
            }
            Select::Instance(id) => {
                let named = site.instances.get(&id);
                trace.ttl = named.map_or(0, |n| if n.lasting { site.pin_ttl } else { 0 });
                trace.endpoints =
                    named.and_then(|n| n.endpoint.as_ref()).map(|e| (e.id, e.address)).into_iter().collect();
                "the instance that the name says, as long as it runs".into()
            }
            Select::Mix => {
                let arms = site.arms.iter().filter(|a| a.bps > 0);
                trace.endpoints = arms.flat_map(|a| a.endpoints.iter()).map(|e| (e.id, e.address)).collect();
                "SRV of every version, its weight shared out among its instances".into()
            }
            Select::Policy => {
                let weighted = |n: &usize| site.arms[*n].bps > 0 && servable(*n);
                let possible: Vec<usize> = (0..Role::COUNT).filter(weighted).collect();
                let remembered = from.and_then(|ip| self.remembered(site, ip)).filter(|arm| servable(*arm));
                match (possible.as_slice(), remembered) {
                    ([], _) => "no version with a weight has anything to name".into(),
                    ([only], _) => {
                        take(trace, Role::ALL[*only]);
                        "the one version that has a weight and something to name".into()
                    }
                    (_, Some(arm)) => {
                        take(trace, Role::ALL[arm]);
                        "this client asked for another record type less than two seconds ago: siblings agree".into()
                    }
                    ([..], None) => {
                        let arms = possible.iter().flat_map(|n| site.arms[*n].endpoints.iter());
                        trace.endpoints = arms.map(|e| (e.id, e.address)).collect();
                        "the next card of the deck, which is shuffled: exact shares over each whole deck".into()
                    }
                }
            }
        }
    }
}

impl Trace {
    fn end(mut self, outcome: &'static str, because: &str) -> Self {
        (self.outcome, self.because) = (outcome, because.into());
        self
    }
}

fn parts(what: &What<'_>, labels: &[&str]) -> Vec<(String, String)> {
    let part = |label: String, means: &str| (label, means.to_string());
    let of = |set: &Select<'_>| match set {
        Select::Policy => None,
        Select::Arm(role) => {
            let (label, means) = label_of(*role);
            Some(part(label.into(), means))
        }
        Select::Active => Some(part("active".into(), "what has the traffic")),
        Select::Preview => Some(part("preview".into(), "what waits to get it")),
        Select::Key(key) => Some(match labels.contains(&format!("t-{key}").as_str()) {
            true => part(format!("t-{key}"), "a tenant, keyed by its name: the same name, the same version"),
            false => part(format!("k-{key}"), "sticky: the same key, the same version"),
        }),
        Select::Version(slug) => Some(part(format!("v-{slug}"), "one version")),
        Select::Instance(id) => Some(part(format!("i-{id}"), "one instance")),
        Select::Mix => Some(part("mix".into(), "all versions with weights")),
    };
    match what {
        What::Status => vec![part("_rollout".into(), "where the rollout stands")],
        What::Set(set) => of(set).into_iter().collect(),
        What::Proto { set, proto } => {
            [Some(part((*proto).into(), "a transport")), of(set)].into_iter().flatten().collect()
        }
        What::Port { set, port, proto } => {
            let port = part(format!("_{port}.{proto}"), "a port by name");
            [Some(port), of(set)].into_iter().flatten().collect()
        }
    }
}
