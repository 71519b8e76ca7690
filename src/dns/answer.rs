//! What a well-formed question about the zone is answered: one version a reply, at most eight endpoints, in random
//! order.
//!
//! Names that exist without the asked type are NODATA, what does not exist is NXDOMAIN; both carry the SOA. Every
//! positive answer of a service notes its TTL, because drains wait for it. Not here: the message around it (`respond`),
//! the grammar (`name`).

mod endpoints;

pub(super) use endpoints::{Wanted, exists, wanted};
use endpoints::{address, is, mix, sample};

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, HINFO, NS, SOA, SRV, TXT},
    },
};
use rand::{Rng as _, seq::SliceRandom as _};

use super::{
    endpoints::{Endpoint, Endpoints},
    memo::{Memo, Query, Sibling},
    name::{QueriedName, Select, What, parse},
    requests::Requests,
    reverse::ReverseZones,
    site::Site,
    stats::{Stats, add},
    view::ZoneView,
};
use crate::{
    clock::Mono,
    state::Role,
    traffic::{
        self, By, Key,
        lease::{Boot, Hold},
    },
};

/// Endpoints of one answer; what fits 512 bytes, and as many as any client tries.
pub(super) const MAX_ENDPOINTS: usize = 8;
/// TTL of negative answers, seconds.
pub(super) const NEGATIVE_TTL: u32 = 2;
/// TTL of the zone's own records, seconds.
const ZONE_TTL: u32 = 60;

/// The version of the names, as `_dns-version` says it.
const NAMES_VERSION: &str = "1.0";

/// A reply before it is fitted into a message.
#[derive(Debug)]
pub(super) struct Reply {
    pub code: ResponseCode,
    /// AA: this is an answer about our zone.
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub soa: Option<Record>,
    pub additionals: Vec<Record>,
    /// Whether a part of the answers is as good as all of them.
    pub shrinkable: bool,
    /// TC: it says nothing but to come back over TCP.
    pub cut: bool,
    /// Extended error (RFC 8914): code and text.
    pub extended: Option<(u16, &'static str)>,
}

impl Reply {
    /// A refusal without records.
    pub(super) fn refusal(code: ResponseCode, extended: Option<(u16, &'static str)>) -> Self {
        let (answers, additionals) = (Vec::new(), Vec::new());
        Self { code, authoritative: false, answers, soa: None, additionals, shrinkable: false, cut: false, extended }
    }

    /// Leaves nothing but the header.
    pub(super) fn cut(&mut self) {
        (self.answers, self.soa, self.additionals, self.cut) = (Vec::new(), None, Vec::new(), true);
    }
}

/// What may be named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'s> {
    /// Everything of a version that may be.
    All(&'s Endpoints),
    /// This, or nothing.
    One(Option<&'s Endpoint>),
}

impl<'s> Named<'s> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'s Endpoint> {
        match self {
            Self::All(all) => all.iter(),
            Self::One(one) => one.map_or(&[][..], std::slice::from_ref).iter(),
        }
    }
}

/// What may be named, with the TTL of answers about it, or a failure.
type Found<'s> = Result<(Named<'s>, u32), Box<Reply>>;
const NOTHING: (Named<'_>, u32) = (Named::One(None), 0);

/// The deployment's policy would rather fail than answer: another server may know more.
fn too_few() -> Reply {
    Reply::refusal(ResponseCode::ServFail, Some((0, "too few healthy instances of the chosen version")))
}

/// Everything an answer depends on beside the question.
pub(super) struct Context<'a> {
    pub view: &'a ZoneView,
    pub node: u64,
    pub memo: &'a Memo,
    pub stats: &'a Stats,
    pub client: SocketAddr,
    pub now: Mono,
    pub reverse: &'a ReverseZones,
    /// The serving lease that goes with the view, and a time read after both.
    pub hold: Hold,
    pub boot: Boot,
    /// What instances count.
    pub requests: &'a Requests,
}

impl Context<'_> {
    /// Answers a question of class IN. `name` is as the client wrote it, `lower` the same in lower case.
    ///
    /// What a service's name is answered, `fast` encodes by itself: it shares `parse`, [`exists`], [`wanted`] and
    /// `endpoints`.
    pub(super) fn answer(&self, name: &Name, lower: &Name, kind: RecordType) -> Reply {
        let Some(zone) = &self.view.zone else {
            return Reply::refusal(ResponseCode::ServFail, Some((14, "not ready")));
        };
        // A label that is no text is in no name of ours, and in no zone of ours unless its end says so.
        let labels: Vec<&str> = lower.iter().map(|l| std::str::from_utf8(l).unwrap_or("\0")).collect();
        match parse(&labels, zone) {
            QueriedName::Outside => self.reverse(name, &labels, kind),
            QueriedName::Apex => self.apex(name, kind),
            QueriedName::NameServer(id) => match self.view.servers.iter().find(|s| s.id == id) {
                Some(server) => self.own(name, kind, self.addresses(name, kind, ZONE_TTL, server.address.iter())),
                None => self.negative(ResponseCode::NXDomain),
            },
            QueriedName::ApiHost(id) => match self.view.servers.iter().find(|s| s.id == id) {
                Some(s) => self.own(name, kind, self.addresses(name, kind, ZONE_TTL, s.api.map(|a| a.ip()).iter())),
                None => self.negative(ResponseCode::NXDomain),
            },
            QueriedName::Api => self.api(name, kind),
            QueriedName::ApiProto => self.own(name, kind, Vec::new()),
            QueriedName::Schema if kind == RecordType::TXT => {
                let txt = TXT::new(vec![NAMES_VERSION.into()]);
                self.positive(vec![Record::from_rdata(name.clone(), ZONE_TTL, RData::TXT(txt))])
            }
            QueriedName::Schema => self.own(name, kind, Vec::new()),
            QueriedName::Services => self.own(name, kind, Vec::new()),
            QueriedName::Environment(e) if self.view.environments.contains_key(e) => self.own(name, kind, Vec::new()),
            QueriedName::Environment(_) | QueriedName::Nothing => self.negative(ResponseCode::NXDomain),
            QueriedName::Service { environment, service, what } => match self.view.site(environment, service) {
                Some(site) if exists(site, &what) => self.leased(site, &what, name, kind),
                Some(_) | None => self.negative(ResponseCode::NXDomain),
            },
        }
    }

    pub(super) fn service(&self, site: &Site, what: &What<'_>, name: &Name, kind: RecordType) -> Reply {
        let (set, sibling) = match wanted(site, what, kind) {
            Wanted::Nothing => return self.own(name, kind, Vec::new()),
            Wanted::Status => return self.positive(vec![self.status(site, name)]),
            Wanted::Srv(set, port) => return self.srv(site, set, port, name),
            Wanted::Addresses(set, sibling) => (set, sibling),
        };
        let (endpoints, ttl) = match self.endpoints(site, set, sibling) {
            Ok(found) => found,
            Err(failure) => return *failure,
        };
        let chosen = sample(endpoints.iter().filter(|e| is(kind, e.address)));
        let answers = self.addresses(name, kind, ttl, chosen.iter().map(|e| &e.address));
        self.handed_out(site, ttl, answers.is_empty());
        Reply { shrinkable: true, ..self.own(name, kind, answers) }
    }

    /// The endpoints of a set that DNS may name, and the TTL of answers about it; or why nothing may be answered.
    pub(super) fn endpoints<'s>(&self, site: &'s Site, set: Select<'_>, kind: Sibling) -> Found<'s> {
        match set {
            Select::Policy => match self.pick(site, kind) {
                Some(arm) => self.of_arm(site, arm),
                None => Ok(NOTHING),
            },
            Select::Key(key) => match self.keyed(site, key) {
                Some(arm) => self.of_arm(site, arm),
                None => Ok(NOTHING),
            },
            Select::Active => self.endpoints(site, Select::Arm(site.active()), kind),
            Select::Preview => match site.preview() {
                Some(role) => self.endpoints(site, Select::Arm(role), kind),
                None => Ok(NOTHING),
            },
            Select::Arm(role) if site.arm(role).fails => Err(Box::new(too_few())),
            // What a role means moves with promotions and switches, so it is cached no longer than the route.
            Select::Arm(role) => Ok((Named::All(&site.arm(role).endpoints), site.route_ttl())),
            Select::Version(slug) => Ok(match site.versions.get(slug) {
                Some(pinned) => (Named::All(&pinned.endpoints), site.pin_ttl),
                None => NOTHING,
            }),
            Select::Instance(id) => Ok(match site.instances.get(&id) {
                Some(known) => (Named::One(known.endpoint.as_ref()), if known.lasting { site.pin_ttl } else { 0 }),
                None => NOTHING,
            }),
            // Weighted over all versions: `mix` makes its own records.
            Select::Mix => Ok(NOTHING),
        }
    }

    /// What the policy has chosen.
    fn of_arm<'s>(&self, site: &'s Site, arm: usize) -> Found<'s> {
        if site.arms[arm].endpoints.is_empty() {
            return Err(Box::new(too_few()));
        }
        site.answered(arm, self.client.ip(), self.now);
        Ok((Named::All(&site.arms[arm].endpoints), site.route_ttl()))
    }

    /// The arm of one answer of the traffic policy.
    fn pick(&self, site: &Site, kind: Sibling) -> Option<usize> {
        let route = site.route.as_ref()?;
        let odds = &site.odds;
        if !odds.any(kind) {
            return None;
        }
        // With one arm there is nothing to draw and nothing to remember.
        if odds.only.is_some() {
            return odds.only;
        }
        let servable = |arm: usize| odds.may_be_chosen(arm);
        let draw = || {
            let mut random = || rand::rng().next_u64();
            traffic::choose(By::Deck(&mut site.deck.lock(), &mut random), &servable)
        };
        let (client, now) = (self.client, self.now);
        let query = Query { client, site: site.number, generation: route.generation, kind, now };
        let arm = self.memo.arm(query, servable, draw)?;
        if odds.lacking {
            add(&self.stats.renormalised);
        }
        Some(arm)
    }

    /// The arm of a key, whatever is asked about it: A, AAAA and SRV agree without a memo.
    fn keyed(&self, site: &Site, key: &str) -> Option<usize> {
        let key = Key::new(key).ok()?;
        let servable = |arm: usize| site.odds.may_be_chosen(arm);
        let table = site.table()?;
        let arm = traffic::choose(By::Key(table, &key), &servable)?;
        if table.arm(key.slot(site.salt)) != arm {
            add(&self.stats.renormalised);
        }
        Some(arm)
    }

    fn srv(&self, site: &Site, set: Select<'_>, port: &str, name: &Name) -> Reply {
        let (chosen, ttl) = match set {
            Select::Mix => (mix(site), site.route_ttl()),
            Select::Policy
            | Select::Arm(_)
            | Select::Active
            | Select::Preview
            | Select::Key(_)
            | Select::Version(_)
            | Select::Instance(_) => {
                let (endpoints, ttl) = match self.endpoints(site, set, Sibling::Srv) {
                    Ok(found) => found,
                    Err(failure) => return *failure,
                };
                (sample(endpoints.iter()).into_iter().map(|e| (e, 1)).collect(), ttl)
            }
        };
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (endpoint, weight) in chosen {
            let (Some(port), Some(target)) = (endpoint.ports.get(port), self.target(site, endpoint)) else { continue };
            answers.push(Record::from_rdata(name.clone(), ttl, RData::SRV(SRV::new(0, weight, *port, target.clone()))));
            let rdata = address(endpoint.address);
            additionals.push(Record::from_rdata(target, ttl.min(site.pin_ttl), rdata));
        }
        self.handed_out(site, ttl, answers.is_empty());
        let reply = self.own(name, RecordType::SRV, answers);
        Reply { additionals, shrinkable: set != Select::Mix, ..reply }
    }

    fn target(&self, site: &Site, endpoint: &Endpoint) -> Option<Name> {
        let id = &site.id;
        self.under(&format!("i-{}.{}.{}.svc", endpoint.id, id.service, id.environment))
    }

    fn status(&self, site: &Site, name: &Name) -> Record {
        let generation = site
            .route
            .as_ref()
            .map_or_else(|| "none".into(), |r| format!("{}.{}", r.generation.incarnation, r.generation.n));
        let realised = site.realised(self.now);
        let answers: Vec<String> =
            realised.versions.iter().map(|(_, version, _, n)| format!("{version}:{n}")).collect();
        let requests = self.requests.of(&site.id, self.now);
        let counted: Vec<String> = requests.iter().map(|(version, n)| format!("{version}:{n}")).collect();
        let version = |role: Role| site.arm(role).version.as_deref().unwrap_or("none").to_string();
        let texts = vec![
            "txtvers=1".into(),
            format!("gen={generation}"),
            format!("idx={}", self.view.index),
            format!("phase={}", site.phase),
            format!("active={}", version(site.active())),
            format!("canary={}", version(Role::Candidate)),
            format!("bps={}", site.arm(Role::Candidate).bps),
            format!("node={}", self.node),
            format!("answers={}", answers.join("/")),
            format!("requests={}", if counted.is_empty() { "-".into() } else { counted.join("/") }),
            format!("clients={}", realised.clients),
            format!("spread={}", realised.spread_bp),
            format!("lease={}", self.lease_word(site)),
        ];
        Record::from_rdata(name.clone(), 0, RData::TXT(TXT::new(texts)))
    }

    pub(super) fn apex(&self, name: &Name, kind: RecordType) -> Reply {
        let servers = || self.view.servers.iter().filter_map(|s| Some((s, self.under(&format!("ns{}", s.id))?)));
        let answers = match kind {
            RecordType::SOA => self.soa(name.clone(), ZONE_TTL).into_iter().collect(),
            RecordType::NS => {
                servers().map(|(_, n)| Record::from_rdata(name.clone(), ZONE_TTL, RData::NS(NS(n)))).collect()
            }
            _ => Vec::new(),
        };
        let mut reply = self.own(name, kind, answers);
        if kind == RecordType::NS {
            let glue = servers().filter_map(|(s, n)| Some(Record::from_rdata(n, ZONE_TTL, address(s.address?))));
            reply.additionals = glue.collect();
        }
        reply
    }

    /// SRV of every node's API, with the addresses.
    fn api(&self, name: &Name, kind: RecordType) -> Reply {
        if kind != RecordType::SRV {
            return self.own(name, kind, Vec::new());
        }
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (server, api) in self.view.servers.iter().filter_map(|s| Some((s, s.api?))) {
            let Some(target) = self.under(&format!("api{}", server.id)) else { continue };
            let srv = RData::SRV(SRV::new(0, 1, api.port(), target.clone()));
            answers.push(Record::from_rdata(name.clone(), ZONE_TTL, srv));
            additionals.push(Record::from_rdata(target, ZONE_TTL, address(api.ip())));
        }
        Reply { additionals, shrinkable: true, ..self.own(name, kind, answers) }
    }

    fn addresses<'i>(
        &self,
        name: &Name,
        kind: RecordType,
        ttl: u32,
        of: impl Iterator<Item = &'i IpAddr>,
    ) -> Vec<Record> {
        of.filter(|ip| is(kind, **ip)).map(|ip| Record::from_rdata(name.clone(), ttl, address(*ip))).collect()
    }

    /// A reply about a name that exists: its records, or NODATA. ANY gets the minimal answer of RFC 8482.
    pub(super) fn own(&self, name: &Name, kind: RecordType, answers: Vec<Record>) -> Reply {
        if answers.is_empty() && kind == RecordType::ANY {
            let hinfo = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
            return self.positive(vec![Record::from_rdata(name.clone(), ZONE_TTL, hinfo)]);
        }
        if answers.is_empty() { self.negative(ResponseCode::NoError) } else { self.positive(answers) }
    }

    pub(super) fn positive(&self, answers: Vec<Record>) -> Reply {
        Reply { authoritative: true, answers, ..Reply::refusal(ResponseCode::NoError, None) }
    }

    fn negative(&self, code: ResponseCode) -> Reply {
        self.absent(code, self.zone_name())
    }

    /// No such name, or no such record, in a zone of ours.
    pub(super) fn absent(&self, code: ResponseCode, zone: Option<Name>) -> Reply {
        let soa = zone.and_then(|zone| self.soa(zone, NEGATIVE_TTL));
        Reply { authoritative: true, soa, ..Reply::refusal(code, None) }
    }

    fn soa(&self, owner: Name, ttl: u32) -> Option<Record> {
        let primary = match self.view.servers.first() {
            Some(s) => self.under(&format!("ns{}", s.id))?,
            None => self.zone_name()?,
        };
        let [serial, refresh, retry, expire, minimum] = self.soa_numbers();
        let signed = |seconds| i32::try_from(seconds).unwrap_or(i32::MAX);
        let hostmaster = self.under("hostmaster")?;
        let soa = SOA::new(primary, hostmaster, serial, signed(refresh), signed(retry), signed(expire), minimum);
        Some(Record::from_rdata(owner, ttl, RData::SOA(soa)))
    }

    /// Serial, refresh, retry, expire and minimum.
    pub(super) fn soa_numbers(&self) -> [u32; 5] {
        // RFC 1982: serials are compared modulo 2^32, so the low half of the index is enough.
        let serial = u32::try_from(self.view.serial & u64::from(u32::MAX)).unwrap_or(0);
        [serial, 60, 10, 3600, NEGATIVE_TTL]
    }

    fn zone_name(&self) -> Option<Name> {
        Name::from_ascii(format!("{}.", self.view.zone.as_ref()?.join("."))).ok()
    }

    pub(super) fn under(&self, front: &str) -> Option<Name> {
        Name::from_ascii(format!("{front}.{}.", self.view.zone.as_ref()?.join("."))).ok()
    }

    pub(super) fn handed_out(&self, site: &Site, ttl: u32, nothing: bool) {
        if !nothing && ttl > 0 {
            site.noted.ttl(ttl, self.now);
        }
    }
}
