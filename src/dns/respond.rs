//! One message in, at most one message out: the checks around a question, and fitting the reply into what the client
//! can take.
//!
//! Never answers a response (QR=1), whatever follows it, nor what is shorter than a header; both would let two servers
//! talk to each other for ever. Counts in the header are checked before anything is decoded, so a small packet cannot
//! ask for much memory. Pure of sockets: `server` has those. Over UDP a response may be withheld (`limit`) from who has
//! not shown by a cookie (`cookie`) that the address is its own. Responses are never padded: without a cookie the
//! largest possible one is 1,232 octets, and the rate bounds what a spoofed address can be sent, so there is no further
//! cap on response over request.

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use hickory_proto::{
    op::{Edns, Metadata, ResponseCode},
    rr::{
        DNSClass, Name, Record, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
    serialize::binary::BinEncoder,
};
use hickory_server::{net::xfer::Protocol, server::Request, zone_handler::MessageResponseBuilder};

use super::{
    answer::{Context, Reply},
    cookie::{Cookies, Presented},
    fast,
    limit::{Class, Limiter, RateDecision, Rates},
    memo::Memo,
    mmsg::Datagrams,
    reverse::ReverseZones,
    site::Site,
    stats::{DnsCounts, QueryTally, Stats, add},
    store::ViewStore,
    view::ZoneView,
};
use crate::{
    clock::{Clock, Mono},
    traffic::lease::{Boot, Hold},
};

/// The largest UDP payload sent or announced (DNS flag day 2020): no fragments on any usual path.
pub const UDP_MAX: u16 = 1232;
pub(super) const UDP_PLAIN: u16 = 512;
pub(super) const HEADER: usize = 12;
/// The longest label and the longest name (RFC 1035).
const LABEL: usize = 63;
const NAME: usize = 255;
/// Option code of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// Option code of the server's name (RFC 5001).
const NSID: u16 = 3;
/// Option code of cookies (RFC 7873).
const COOKIE: u16 = 10;

/// How one server answers beside what the cluster agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// Zones of reverse names.
    pub reverse: ReverseZones,
    /// Secrets of cookies.
    pub cookies: Cookies,
    /// Limits on responses over UDP.
    pub rates: Rates,
    /// What NSID says; empty: nothing.
    pub nsid: String,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            reverse: ReverseZones::default(),
            cookies: Cookies::new(Vec::new()),
            rates: Rates::NONE,
            nsid: String::new(),
        }
    }
}

/// What became of a message inside.
enum Handled {
    Response(Vec<u8>),
    /// Over its rate: nothing is sent.
    Withheld,
    /// It could not be decoded.
    Malformed,
}

/// Stands for the client until it is known.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// One message of a stream.
    Tcp,
}

/// Answers messages from the newest view.
#[derive(Debug)]
pub struct Responder {
    store: Arc<ViewStore>,
    memo: Memo,
    pub(super) stats: Stats,
    clock: Clock,
    settings: DnsSettings,
    limiter: Limiter,
}

impl Responder {
    /// A responder that answers from `store`, without reverse zones, cookies and limits.
    pub fn new(store: Arc<ViewStore>, clock: Clock) -> Self {
        Self::with(store, clock, DnsSettings::default())
    }

    /// A responder with settings.
    pub fn with(store: Arc<ViewStore>, clock: Clock, settings: DnsSettings) -> Self {
        let limiter = Limiter::new(settings.rates.clone());
        Self { store, memo: Memo::new(), stats: Stats::default(), clock, settings, limiter }
    }

    pub(super) fn is_reverse(&self, labels: &[&str]) -> bool {
        self.settings.reverse.zone_of(labels).is_some()
    }

    /// The arm that a sibling of this client's last look-up would get.
    pub(super) fn remembered(&self, site: &Site, client: IpAddr) -> Option<usize> {
        let generation = site.route.as_ref()?.generation;
        self.memo.peek(client, site.number, generation, self.clock.mono())
    }

    /// The views it answers from.
    pub fn store(&self) -> &Arc<ViewStore> {
        &self.store
    }

    /// What it has done so far.
    pub fn counts(&self) -> DnsCounts {
        self.stats.counts()
    }

    /// The response to a message; `None` when there must be none.
    pub fn respond(&self, raw: &[u8], client: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
        add(match transport {
            Transport::Udp => &self.stats.udp,
            Transport::Tcp => &self.stats.tcp,
        });
        let header: &[u8; HEADER] = raw.first_chunk().filter(|h| h[2] & 0x80 == 0).or_else(|| {
            add(&self.stats.ignored);
            None
        })?;
        let early = |code: ResponseCode| {
            let verdict = self.verdict(transport, client, Class::Error);
            (verdict != RateDecision::Drop).then(|| {
                self.stats.rcode(code.into());
                bare(header, code)
            })
        };
        if header[2] >> 3 & 0x0f != 0 {
            return early(ResponseCode::NotImp);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        // One question; no answers; an SOA in the authority section for IXFR; OPT and a signature among the
        // additionals.
        if count(4) != 1 || count(6) != 0 || count(8) > 1 || count(10) > 2 {
            return early(ResponseCode::FormErr);
        }
        // The echo repeats the question's octets, and a pointer in it would point into another header.
        if !written_out(raw) {
            return early(ResponseCode::FormErr);
        }
        // A bug in here must cost one answer, not the server.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let protocol = match transport {
                Transport::Udp => Protocol::Udp,
                Transport::Tcp => Protocol::Tcp,
            };
            match Request::from_bytes(raw.to_vec(), client, protocol) {
                Ok(request) => self.handle(&request, client, transport),
                Err(_) => Handled::Malformed,
            }
        }));
        match handled {
            Ok(Handled::Response(bytes)) => Some(bytes),
            Ok(Handled::Withheld) => None,
            Ok(Handled::Malformed) => early(ResponseCode::FormErr),
            Err(_) => {
                add(&self.stats.panics);
                early(ResponseCode::ServFail)
            }
        }
    }

    fn handle(&self, request: &Request, client: SocketAddr, transport: Transport) -> Handled {
        let Ok(info) = request.request_info() else { return Handled::Malformed };
        let query = info.query;
        let (name, kind) = (query.original().name(), query.query_type());
        let cookie = self.cookie(request, client);
        let mut reply = match (request.edns.as_ref().map(Edns::version), query.query_class(), kind) {
            (Some(1..), _, _) => Reply::refusal(ResponseCode::BADVERS, None),
            (_, _, _) if cookie == Presented::Malformed => Reply::refusal(ResponseCode::FormErr, None),
            (_, DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => {
                Reply::refusal(ResponseCode::Refused, Some((20, "no zone transfers")))
            }
            (_, DNSClass::IN, _) => self.ask(name, query.name(), kind, client),
            (_, _, _) => Reply::refusal(ResponseCode::Refused, Some((20, "class IN only"))),
        };
        let (known, cookie) = match cookie {
            Presented::Cookie { good, answer } => (good, Some(answer)),
            Presented::Nothing | Presented::Malformed => (false, None),
        };
        let class = match reply.code {
            ResponseCode::NoError if !reply.answers.is_empty() => Class::Answer,
            ResponseCode::NoError | ResponseCode::NXDomain => Class::Negative,
            _ => Class::Error,
        };
        let verdict = if known { RateDecision::Send } else { self.verdict(transport, client, class) };
        match verdict {
            RateDecision::Send => {}
            RateDecision::Drop => return Handled::Withheld,
            // Who has sent a cookie is to come back with the one it gets here; others over TCP.
            RateDecision::Slip if cookie.is_some() => reply = Reply::refusal(ResponseCode::BADCOOKIE, None),
            RateDecision::Slip => reply.cut(),
        }
        self.encode(request, reply, transport, cookie).map_or(Handled::Malformed, Handled::Response)
    }

    fn verdict(&self, transport: Transport, client: SocketAddr, class: Class) -> RateDecision {
        let verdict = match transport {
            Transport::Udp => self.limiter.verdict(client.ip(), class, self.clock.mono()),
            Transport::Tcp => RateDecision::Send,
        };
        match verdict {
            RateDecision::Send => {}
            RateDecision::Drop => add(&self.stats.limited),
            RateDecision::Slip => add(&self.stats.slipped),
        }
        verdict
    }

    fn cookie(&self, request: &Request, client: SocketAddr) -> Presented {
        let option = request.edns.as_ref().and_then(|e| e.option(EdnsCode::Cookie));
        let Some(bytes) = option.and_then(|o| Vec::<u8>::try_from(o).ok()) else { return Presented::Nothing };
        // Seconds modulo 2^32, as the cookie has them.
        let now = u32::try_from((self.clock.wall_ms() / 1000) & u64::from(u32::MAX)).unwrap_or(0);
        self.settings.cookies.look(&self.store.view().cookies, Some(&bytes), client.ip(), now)
    }

    fn ask(&self, name: &Name, lower: &Name, kind: RecordType, client: SocketAddr) -> Reply {
        if !self.store.is_ready() {
            add(&self.stats.not_ready);
            return Reply::refusal(ResponseCode::ServFail, Some((14, "not ready")));
        }
        let (view, hold) = self.store.leased_view();
        let lease = (hold, self.clock.boot());
        self.context(&view, lease, client, self.clock.mono()).answer(name, lower, kind)
    }

    /// What an answer from this view to this client depends on.
    fn context<'a>(&'a self, view: &'a ZoneView, lease: (Hold, Boot), client: SocketAddr, now: Mono) -> Context<'a> {
        let (hold, boot) = lease;
        Context {
            view,
            node: self.store.node(),
            memo: &self.memo,
            stats: &self.stats,
            client,
            now,
            reverse: &self.settings.reverse,
            hold,
            boot,
            requests: &self.store.requests,
        }
    }

    /// The response to a common question, made the short way alone (`fast`); `None`: it goes the long way.
    pub fn respond_fast(&self, raw: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let mut buffer = [0; 2 * UDP_MAX as usize];
        buffer.get_mut(..raw.len())?.copy_from_slice(raw);
        let (view, hold) = self.store.is_ready().then(|| self.store.leased_view())?;
        let context = self.context(&view, (hold, self.clock.boot()), client, self.clock.mono());
        let answered = fast::answer(&context, &mut buffer, raw.len())?;
        Some(buffer[..answered.length].to_vec())
    }

    /// Answers a batch of datagrams where they lie: common questions by `fast`, all others as [`Responder::respond`]
    /// does. All of them came before the view is read, so one view serves them all. It is given back to be held until
    /// they are sent: until then this node serves it.
    #[must_use = "it is served until the answers are sent"]
    pub(super) fn respond_all(&self, all: &mut Datagrams, n: usize) -> Arc<ZoneView> {
        let ready = self.store.is_ready();
        let (view, hold) = self.store.leased_view();
        let (now, lease) = (self.clock.mono(), (hold, self.clock.boot()));
        let mut context = self.context(&view, lease, NOBODY, now);
        let mut tally = QueryTally::default();
        for at in 0..n {
            let length = all.received(at);
            // Port 0 cannot be answered.
            let Some(client) = all.client(at).filter(|c| c.port() != 0) else { continue };
            context.client = client;
            let message = all.buffer(at);
            let quick = || ready.then(|| fast::answer(&context, message, length)).flatten();
            // A bug in here must cost one answer, not the server.
            let outgoing = match catch_unwind(AssertUnwindSafe(quick)) {
                Ok(Some(answered)) => {
                    tally.queries += 1;
                    let verdict = self.verdict(Transport::Udp, client, answered.class());
                    if verdict != RateDecision::Drop {
                        tally.code(answered.code.into());
                    }
                    match verdict {
                        RateDecision::Send => answered.length,
                        RateDecision::Slip => answered.cut(message),
                        RateDecision::Drop => 0,
                    }
                }
                Ok(None) => put(message, self.respond(&message[..length], client, Transport::Udp)),
                Err(_) => {
                    add(&self.stats.panics);
                    self.stats.rcode(ResponseCode::ServFail.into());
                    put(message, message.first_chunk().map(|header| bare(header, ResponseCode::ServFail)))
                }
            };
            all.set_outgoing(at, outgoing);
        }
        self.stats.add_all(&tally);
        view
    }

    /// Fits a reply: first without additionals, then with fewer answers if a part will do, at last empty with TC.
    fn encode(
        &self,
        request: &Request,
        mut reply: Reply,
        transport: Transport,
        cookie: Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut meta = Metadata::response_from_request(&request.metadata);
        meta.response_code = reply.code;
        (meta.authoritative, meta.truncation) = (reply.authoritative, reply.cut);
        let edns = request.edns.as_ref().map(|q| edns(q, reply.extended, cookie, &self.settings.nsid));
        let limit = match (transport, &request.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, Some(q)) => q.max_payload().clamp(UDP_PLAIN, UDP_MAX),
            (Transport::Udp, None) => UDP_PLAIN,
        };
        let mut whole = emit(request, meta, &reply, edns.as_ref(), limit);
        if whole.is_none() && !reply.additionals.is_empty() {
            reply.additionals.clear();
            whole = emit(request, meta, &reply, edns.as_ref(), limit);
        }
        while whole.is_none() && reply.shrinkable && reply.answers.len() > 1 {
            reply.answers.pop();
            whole = emit(request, meta, &reply, edns.as_ref(), limit);
        }
        if whole.is_none() {
            reply.cut();
            meta.truncation = true;
            add(&self.stats.truncated);
            whole = emit(request, meta, &reply, edns.as_ref(), limit);
        }
        self.stats.rcode(reply.code.into());
        whole
    }
}

/// The message, or `None` when it does not fit.
fn emit(request: &Request, meta: Metadata, reply: &Reply, edns: Option<&Edns>, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(UDP_PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = edns {
        builder.edns(edns);
    }
    let none: [Record; 0] = [];
    let message = builder.build(meta, &reply.answers, &none, &reply.soa, &reply.additionals);
    let cut = message.destructive_emit(&mut encoder).ok()?.truncation && !meta.truncation;
    (!cut).then_some(bytes)
}

fn edns(asked: &Edns, extended: Option<(u16, &'static str)>, cookie: Option<Vec<u8>>, nsid: &str) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(0).set_max_payload(UDP_MAX).set_dnssec_ok(asked.flags().dnssec_ok);
    if let Some((code, text)) = extended {
        let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
        edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
    }
    if let Some(cookie) = cookie {
        edns.options_mut().insert(EdnsOption::Unknown(COOKIE, cookie));
    }
    if !nsid.is_empty() && asked.option(EdnsCode::NSID).is_some() {
        edns.options_mut().insert(EdnsOption::Unknown(NSID, nsid.as_bytes().to_vec()));
    }
    edns
}

/// Whether the question's name is one, and written without pointers: there is nothing before it that one could point
/// at.
fn written_out(raw: &[u8]) -> bool {
    let mut at = HEADER;
    while let Some(&length) = raw.get(at) {
        match usize::from(length) {
            0 => return at < HEADER + NAME && raw.len() >= at + 5,
            n if n <= LABEL => at += 1 + n,
            _ => return false,
        }
    }
    false
}

/// Puts a response where its query was, and says how long it is; 0: there is none.
fn put(message: &mut [u8], response: Option<Vec<u8>>) -> usize {
    let Some(response) = response else { return 0 };
    let Some(room) = message.get_mut(..response.len()) else { return 0 };
    room.copy_from_slice(&response);
    response.len()
}

/// A header alone: id, operation and RD of the request, and a code.
fn bare(request: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&request[..2]);
    out[2] = 0x80 | request[2] & 0x79;
    out[3] = code.low();
    out
}
