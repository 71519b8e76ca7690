//! The common questions, answered on the wire format where they lie: nothing is decoded into names, nothing is
//! allocated.
//!
//! Common is: one question of class IN for A, AAAA or SRV about a name of a service, of letters that are ASCII, without
//! EDNS or with an OPT that has no options. Everything else is `None` and goes the long way, as does what might not
//! fit. Invariants: what is answered here, the long way answers the same but for the order of records
//! (`tests/dns/fast.rs` asks both); the names, the sets, the draw and what exists are the long way's own functions
//! (`name`, `answer`), so they cannot differ; `None` is said before anything is drawn or noted, so that no card is
//! lost. Not here: the socket (`server`), the limits on clients (`respond`).

use std::{cell::RefCell, net::IpAddr};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use rand::{Rng as _, seq::SliceRandom as _};

use super::{
    answer::{Context, MAX_ENDPOINTS, NEGATIVE_TTL, Named, Wanted, exists, wanted},
    endpoints::Endpoint,
    limit::Class,
    memo::Sibling,
    name::{Select, what},
    respond::{HEADER, UDP_MAX, UDP_PLAIN},
    site::Site,
};

/// Labels of a common name at most; ours have nine with a zone of two.
const LABELS: usize = 16;
/// Longest common name, in octets on the wire. The long way spells the name out again in its first record; this is what
/// fits 512 octets even so with eight addresses of IPv6 and an OPT: 249 octets and the name twice.
const NAME: usize = 131;
/// Labels before a service's name at most: a port, its transport and a prefix.
const FRONT: usize = 3;
/// Longest zone: the long way may spell it out three times in a negative answer, beside 93 octets and the name.
const ZONE: usize = 96;
const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const OPT: u16 = 41;
const IN: u16 = 1;
/// A pointer to the question's name.
const QUESTION: [u8; 2] = [0xc0, 12];
/// Octets of a record beside its name and data: type, class, TTL, length.
const FIXED: usize = 10;

thread_local! {
    /// Places of endpoints, while some are chosen.
    static PLACES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// A question in parts.
struct Question {
    /// The name in lower case, as it stands in the message, and what follows it there.
    name: [u8; NAME],
    /// Octets of the name, with its end.
    length: usize,
    /// Where each label begins in `name`, with its length.
    labels: [u8; LABELS],
    count: usize,
    kind: u16,
    edns: Option<Edns>,
}

/// What a plain OPT says.
#[derive(Clone, Copy)]
struct Edns {
    payload: u16,
    dnssec_ok: bool,
}

/// A response that stands where its query was.
pub(super) struct Answered {
    /// Octets of it.
    pub length: usize,
    /// Octets up to the end of the question.
    question: usize,
    pub code: ResponseCode,
    /// Whether there are answers.
    records: bool,
    /// Whether an OPT stands at its end.
    opt: bool,
}

impl Answered {
    /// What its rate is counted as.
    pub(super) fn class(&self) -> Class {
        if self.records { Class::Answer } else { Class::Negative }
    }

    /// Leaves header, question and OPT of it, with TC; says how long that is.
    pub(super) fn cut(&self, message: &mut [u8]) -> usize {
        let opt = if self.opt { Edns::LENGTH } else { 0 };
        message.copy_within(self.length - opt..self.length, self.question);
        message[2] |= 0x02;
        message[6..HEADER].fill(0);
        message[11] = u8::from(self.opt);
        self.question + opt
    }
}

/// Answers the message in the first `length` octets of `buffer` in place; the buffer holds more than any response.
/// `None`: this is for the long way, and nothing has changed.
pub(super) fn answer(context: &Context<'_>, buffer: &mut [u8], length: usize) -> Option<Answered> {
    let question = Question::read(buffer, length)?;
    let view = context.view;
    // Names that are not below a service are rare; and so is a zone that would not fit.
    let own = question.count.checked_sub(view.zone.as_ref()?.len() + 3)?;
    let [service, services, zone] = [own, own + 2, own + 3].map(|label| question.start(label));
    if question.name.get(services..question.length)? != &*view.services || question.length - zone > ZONE {
        return None;
    }
    let at = Places { service, zone };
    let out = Out { bytes: buffer, at: HEADER + question.length + 4, answers: 0, additionals: 0 };
    let mut front = [""; FRONT];
    if own > FRONT {
        return negative(context, &question, at, out, ResponseCode::NXDomain);
    }
    for (n, label) in front.iter_mut().enumerate().take(own) {
        *label = question.label(n)?;
    }
    let Some(what) = what(&front[..own]) else {
        return negative(context, &question, at, out, ResponseCode::NXDomain);
    };
    let site = view.site_by_wire(&question.name[service..services]);
    let Some(site) = site.filter(|site| exists(site, &what)) else {
        return negative(context, &question, at, out, ResponseCode::NXDomain);
    };
    // A failure carries a text and may come only after a card was drawn; so does an answer without a lease. The long
    // path makes both.
    if site.odds.may_fail || !context.may_answer(site) {
        return None;
    }
    let kind = match question.kind {
        A => RecordType::A,
        AAAA => RecordType::AAAA,
        _ => RecordType::SRV,
    };
    let asking = Asking { context, site, question: &question, at };
    match wanted(site, &what, kind) {
        Wanted::Status | Wanted::Srv(Select::Mix, _) => None,
        Wanted::Nothing => negative(context, &question, at, out, ResponseCode::NoError),
        Wanted::Addresses(set, sibling) => asking.addresses(set, sibling, out),
        Wanted::Srv(set, port) => asking.srv(set, port, out),
    }
}

impl Question {
    fn read(buffer: &[u8], length: usize) -> Option<Self> {
        let message = buffer.get(..length)?;
        // A query of kind QUERY; beside RD, AD and CD no flag; one question, no records but one that is OPT.
        let flags_fit = length > HEADER && message[2] & 0xfe == 0 && message[3] & 0xcf == 0;
        if !flags_fit || message[4..11] != [0, 1, 0, 0, 0, 0, 0] || message[11] > 1 {
            return None;
        }
        let mut name: [u8; NAME] = *buffer.get(HEADER..)?.first_chunk()?;
        // Lengths are at most 63, which is below every letter.
        name.make_ascii_lowercase();
        let (mut labels, mut count, mut at) = ([0; LABELS], 0, 0);
        loop {
            let octets = *name.get(at)?;
            if octets == 0 {
                break;
            }
            // Two high bits: a pointer, or something else that is not common.
            if octets > 63 || count == LABELS {
                return None;
            }
            labels[count] = u8::try_from(at).ok()?;
            count += 1;
            at += 1 + usize::from(octets);
        }
        let end = at + 1;
        let rest = message.get(HEADER + end..)?;
        let kind = u16::from_be_bytes(*rest.first_chunk()?);
        let class = u16::from_be_bytes(*rest.get(2..)?.first_chunk()?);
        if class != IN || ![A, AAAA, SRV].contains(&kind) || !name[..end].is_ascii() {
            return None;
        }
        let edns = match (message[11], &rest[4..]) {
            (0, []) => None,
            (1, opt) => Some(Edns::read(opt.try_into().ok()?)?),
            (_, _) => return None,
        };
        Some(Self { name, length: end, labels, count, kind, edns })
    }

    /// Where a label begins; the end of the name behind the last.
    fn start(&self, label: usize) -> usize {
        self.labels[..self.count].get(label).map_or(self.length - 1, |at| usize::from(*at))
    }

    fn label(&self, n: usize) -> Option<&str> {
        std::str::from_utf8(self.name.get(self.start(n) + 1..self.start(n + 1))?).ok()
    }

    /// The most a response may take.
    fn limit(&self) -> usize {
        usize::from(self.edns.map_or(UDP_PLAIN, |e| e.payload.clamp(UDP_PLAIN, UDP_MAX)))
    }
}

impl Edns {
    /// Octets of an OPT without options.
    const LENGTH: usize = 11;

    /// Reads an OPT without options.
    fn read(opt: &[u8; Self::LENGTH]) -> Option<Self> {
        // The root's name, the type, no high bits of a code, version 0, no flag but DO, no options.
        let plain = opt[0] == 0
            && opt[1..3] == OPT.to_be_bytes()
            && opt[5..7] == [0, 0]
            && opt[7] & 0x7f == 0
            && opt[8..] == [0, 0, 0];
        plain.then(|| Self { payload: u16::from_be_bytes([opt[3], opt[4]]), dnssec_ok: opt[7] & 0x80 != 0 })
    }
}

/// Where in the name these labels begin.
#[derive(Clone, Copy)]
struct Places {
    service: usize,
    zone: usize,
}

/// A question about a service.
struct Asking<'a> {
    context: &'a Context<'a>,
    site: &'a Site,
    question: &'a Question,
    at: Places,
}

impl Asking<'_> {
    fn addresses(&self, set: Select<'_>, sibling: Sibling, mut out: Out<'_>) -> Option<Answered> {
        // Always fits, as the name is not too long.
        let (named, ttl) = self.context.endpoints(self.site, set, sibling).ok()?;
        match named {
            Named::All(all) if sibling == Sibling::A => out.some_of(all.v4(), A, ttl),
            Named::All(all) => out.some_of(all.v6(), AAAA, ttl),
            Named::One(one) => match one.map(|e| e.address) {
                Some(IpAddr::V4(ip)) if sibling == Sibling::A => out.some_of(&[ip.octets()], A, ttl),
                Some(IpAddr::V6(ip)) if sibling == Sibling::Aaaa => out.some_of(&[ip.octets()], AAAA, ttl),
                Some(_) | None => {}
            },
        }
        self.context.handed_out(self.site, ttl, out.answers == 0);
        if out.answers == 0 {
            return negative(self.context, self.question, self.at, out, ResponseCode::NoError);
        }
        Some(out.end(self.question, ResponseCode::NoError))
    }

    /// SRV with the targets' addresses, if all of it fits for sure.
    fn srv(&self, set: Select<'_>, port: &str, mut out: Out<'_>) -> Option<Answered> {
        let suffix = &self.question.name[self.at.service..self.question.length];
        // An id is two numbers; none of a site is longer than the last one's first and the longest second.
        let index = self.site.instances.last_key_value().map_or(0, |(id, _)| id.index);
        let label = 1 + "i-".len() + digits(index) + 1 + digits(u32::MAX.into());
        // As much as if nothing were compressed, which the long way may come close to.
        let each = self.question.length + FIXED + 6 + label + suffix.len() + label + suffix.len() + FIXED + 16;
        let most = self.most_endpoints(set)?.min(MAX_ENDPOINTS);
        if out.at + most * each + Edns::LENGTH > self.question.limit() {
            return None;
        }
        let (named, ttl) = self.context.endpoints(self.site, set, Sibling::Srv).ok()?;
        let all = match named {
            Named::All(all) => all,
            Named::One(one) => one.map_or(&[][..], std::slice::from_ref),
        };
        let mut targets = [(0, None); MAX_ENDPOINTS];
        choose(all, |e: &Endpoint| {
            let Some(port) = e.ports.get(port) else { return };
            out.record(&QUESTION, SRV, ttl);
            let data = out.at;
            // Priority 0, weight 1.
            out.put(&[0, 0, 0, 1]);
            out.put(&port.to_be_bytes());
            let target = out.at;
            out.label(format_args!("i-{}", e.id));
            out.put(suffix);
            out.close(data);
            targets[usize::from(out.answers)] = (target, Some(e));
            out.answers += 1;
        });
        for (target, endpoint) in targets {
            let Some(endpoint) = endpoint else { break };
            let pointer = 0xc000 | u16::try_from(target).unwrap_or_default();
            let kind = if endpoint.address.is_ipv4() { A } else { AAAA };
            out.record(&pointer.to_be_bytes(), kind, ttl.min(self.site.pin_ttl));
            out.address(endpoint);
            out.additionals += 1;
        }
        self.context.handed_out(self.site, ttl, out.answers == 0);
        if out.answers == 0 {
            return negative(self.context, self.question, self.at, out, ResponseCode::NoError);
        }
        Some(out.end(self.question, ResponseCode::NoError))
    }

    /// The most endpoints that the set may turn out to have.
    fn most_endpoints(&self, set: Select<'_>) -> Option<usize> {
        match set {
            Select::Policy | Select::Key(_) | Select::Arm(_) | Select::Active | Select::Preview => {
                self.site.arms.iter().map(|a| a.endpoints.len()).max()
            }
            Select::Version(slug) => self.site.versions.get(slug).map(|pinned| pinned.endpoints.len()),
            Select::Instance(_) | Select::Mix => None,
        }
    }
}

/// Decimal digits of a number.
fn digits(n: u64) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Hands as many of `all` as an answer names to `with`: each equally likely, in random order.
fn choose<'e, T>(all: &'e [T], mut with: impl FnMut(&'e T)) {
    if all.len() <= MAX_ENDPOINTS {
        // One number has enough for any order of eight: what is left of it after each choice is as random for the next,
        // but for a bias below 2^-48.
        let (mut order, mut random) = ([0, 1, 2, 3, 4, 5, 6, 7_usize], rand::rng().next_u64());
        for left in (1..=all.len()).rev() {
            let wide = u128::from(random) * left as u128;
            random = wide as u64;
            // Below `left`, and so below eight.
            order.swap(left - 1, (wide >> 64) as usize % MAX_ENDPOINTS);
            if let Some(one) = all.get(order[left - 1]) {
                with(one);
            }
        }
        return;
    }
    PLACES.with_borrow_mut(|places| {
        places.clear();
        places.extend((0..).zip(all).map(|(i, _): (u32, _)| i));
        let (chosen, _) = places.partial_shuffle(&mut rand::rng(), MAX_ENDPOINTS);
        for one in chosen.iter().filter_map(|place| all.get(*place as usize)) {
            with(one);
        }
    });
}

/// No such name, or no such record: the zone's SOA.
fn negative(
    context: &Context<'_>,
    question: &Question,
    at: Places,
    mut out: Out<'_>,
    code: ResponseCode,
) -> Option<Answered> {
    // Always fits, as name and zone are not too long.
    let zone = (0xc000 | u16::try_from(HEADER + at.zone).ok()?).to_be_bytes();
    out.record(&zone, SOA, NEGATIVE_TTL);
    let data = out.at;
    if let Some(server) = context.view.servers.first() {
        out.label(format_args!("ns{}", server.id));
    }
    out.put(&zone);
    out.label(format_args!("hostmaster"));
    out.put(&zone);
    for number in context.soa_numbers() {
        out.put(&number.to_be_bytes());
    }
    out.close(data);
    out.bytes[9] = 1;
    let end = out.end(question, code);
    Some(end)
}

/// A response on its way into the buffer that holds its query.
struct Out<'m> {
    bytes: &'m mut [u8],
    at: usize,
    answers: u8,
    additionals: u8,
}

impl Out<'_> {
    /// The caller knows that it fits: a response is bounded by [`UDP_MAX`], and a buffer holds more.
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The same for what has a known length, which needs no call.
    #[inline(always)]
    fn put_all<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(room) = self.bytes[self.at..].first_chunk_mut() {
            *room = bytes;
        }
        self.at += N;
    }

    /// A record up to its length, which is 0 until [`Out::close`].
    fn record(&mut self, name: &[u8; 2], kind: u16, ttl: u32) {
        let ([k0, k1], [t0, t1, t2, t3]) = (kind.to_be_bytes(), ttl.to_be_bytes());
        self.put(&[name[0], name[1], k0, k1, 0, 1, t0, t1, t2, t3, 0, 0]);
    }

    /// Sets the length of the record whose data began at `data` and ends here.
    fn close(&mut self, data: usize) {
        let length = u16::try_from(self.at - data).unwrap_or_default();
        self.bytes[data - 2..data].copy_from_slice(&length.to_be_bytes());
    }

    /// Answers with some of these addresses.
    fn some_of<const N: usize>(&mut self, all: &[[u8; N]], kind: u16, ttl: u32) {
        // N is 4 or 16.
        let ([k0, k1], [t0, t1, t2, t3], octets) = (kind.to_be_bytes(), ttl.to_be_bytes(), N as u8);
        choose(all, |address| {
            self.put_all([QUESTION[0], QUESTION[1], k0, k1, 0, 1, t0, t1, t2, t3, 0, octets]);
            self.put_all(*address);
            self.answers += 1;
        });
    }

    fn address(&mut self, endpoint: &Endpoint) {
        let data = self.at;
        match endpoint.address {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
        self.close(data);
    }

    fn label(&mut self, text: std::fmt::Arguments<'_>) {
        let start = self.at;
        self.at += 1;
        // Writing into a slice that is long enough does not fail.
        let _ = std::fmt::write(self, text);
        self.bytes[start] = u8::try_from(self.at - start - 1).unwrap_or_default();
    }

    /// Adds the OPT and completes the header.
    fn end(mut self, question: &Question, code: ResponseCode) -> Answered {
        if let Some(edns) = question.edns {
            let (kind, size) = (OPT.to_be_bytes(), UDP_MAX.to_be_bytes());
            let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
            self.put(&[0, kind[0], kind[1], size[0], size[1], 0, 0, dnssec_ok, 0, 0, 0]);
            self.additionals += 1;
        }
        let header = &mut self.bytes[..HEADER];
        // QR, AA, and RD as it was; CD as it was, and the code.
        header[2] = 0x84 | header[2] & 0x01;
        header[3] = header[3] & 0x10 | code.low();
        (header[7], header[11]) = (self.answers, self.additionals);
        let (end, records, opt) = (HEADER + question.length + 4, self.answers > 0, question.edns.is_some());
        Answered { length: self.at, question: end, code, records, opt }
    }
}

impl std::fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
