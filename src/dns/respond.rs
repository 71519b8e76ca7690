//! One message in, at most one message out: the checks around a question, and fitting the reply into what the client can take.
//!
//! Never answers a response (QR=1), whatever follows it, nor what is shorter than a header; both would let two servers talk to each
//! other for ever. Counts in the header are checked before anything is decoded, so a small packet cannot ask for much memory. Pure
//! of sockets: `server` has those.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use hickory_proto::{
    op::{Edns, Metadata, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType, rdata::opt::EdnsOption},
    serialize::binary::BinEncoder,
};
use hickory_server::{net::xfer::Protocol, server::Request, zone_handler::MessageResponseBuilder};

use super::{
    answer::{Context, Reply},
    memo::Memo,
    reverse::ReverseZones,
    stats::{DnsCounts, Stats, add},
    store::ViewStore,
};
use crate::clock::Clock;

/// The largest UDP payload sent or announced (DNS flag day 2020): no fragments on any usual path.
pub const UDP_MAX: u16 = 1232;
const UDP_PLAIN: u16 = 512;
const HEADER: usize = 12;
/// Option code of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

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
    reverse: ReverseZones,
}

impl Responder {
    /// A responder that answers from `store`, without reverse zones.
    pub fn new(store: Arc<ViewStore>, clock: Clock) -> Self {
        Self { store, memo: Memo::new(), stats: Stats::default(), clock, reverse: ReverseZones::default() }
    }

    /// With other reverse zones.
    #[must_use]
    pub fn with_reverse(self, reverse: ReverseZones) -> Self {
        Self { reverse, ..self }
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
            self.stats.rcode(code.into());
            Some(bare(header, code))
        };
        if header[2] >> 3 & 0x0f != 0 {
            return early(ResponseCode::NotImp);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        // One question; no answers; an SOA in the authority section for IXFR; OPT and a signature among the additionals.
        if count(4) != 1 || count(6) != 0 || count(8) > 1 || count(10) > 2 {
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
                Err(_) => None,
            }
        }));
        match handled {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => early(ResponseCode::FormErr),
            Err(_) => {
                add(&self.stats.panics);
                early(ResponseCode::ServFail)
            }
        }
    }

    fn handle(&self, request: &Request, client: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
        let query = request.request_info().ok()?.query;
        let (name, kind) = (query.original().name(), query.query_type());
        let reply = match (request.edns.as_ref().map(Edns::version), query.query_class(), kind) {
            (Some(1..), _, _) => Reply::refusal(ResponseCode::BADVERS, None),
            (_, DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => {
                Reply::refusal(ResponseCode::Refused, Some((20, "no zone transfers")))
            }
            (_, DNSClass::IN, _) => self.ask(name, query.name(), kind, client),
            (_, _, _) => Reply::refusal(ResponseCode::Refused, Some((20, "class IN only"))),
        };
        self.encode(request, reply, transport)
    }

    fn ask(&self, name: &Name, lower: &Name, kind: RecordType, client: SocketAddr) -> Reply {
        if !self.store.is_ready() {
            return Reply::refusal(ResponseCode::ServFail, Some((14, "not ready")));
        }
        let view = self.store.view();
        let context = Context {
            view: &view,
            node: self.store.node(),
            memo: &self.memo,
            stats: &self.stats,
            client,
            now: self.clock.mono(),
            reverse: &self.reverse,
        };
        context.answer(name, lower, kind)
    }

    /// Fits a reply: first without additionals, then with fewer answers if a part will do, at last empty with TC.
    fn encode(&self, request: &Request, mut reply: Reply, transport: Transport) -> Option<Vec<u8>> {
        let mut meta = Metadata::response_from_request(&request.metadata);
        meta.response_code = reply.code;
        meta.authoritative = reply.authoritative;
        let edns = request.edns.as_ref().map(|q| edns(q, reply.extended));
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
            (reply.answers, reply.soa) = (Vec::new(), None);
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

fn edns(asked: &Edns, extended: Option<(u16, &'static str)>) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(0).set_max_payload(UDP_MAX).set_dnssec_ok(asked.flags().dnssec_ok);
    if let Some((code, text)) = extended {
        let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
        edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
    }
    edns
}

/// A header alone: id, operation and RD of the request, and a code.
fn bare(request: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&request[..2]);
    out[2] = 0x80 | request[2] & 0x79;
    out[3] = code.low();
    out
}
