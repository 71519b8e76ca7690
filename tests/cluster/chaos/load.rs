//! What goes on while faults happen: writers whose calls are recorded, requests sent twice, DNS asked, canaries.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use slipway::{
    client::{Client, ClientError, Limits},
    clock::Clock,
    wire::v1,
};

use crate::{
    helpers::history::{Call, Op, Out},
    lab::spec,
};

pub const REGISTERS: usize = 3;
/// How long a request may be repeated, by cluster time.
const NOT_AFTER: u64 = 60_000;

pub type History = Vec<Call<Op, Out>>;

/// What all of them share.
pub struct Shared {
    began: Instant,
    pub stop: AtomicBool,
    pub stop_canaries: AtomicBool,
    /// Clients that know the cluster's time, and so need not ask for its members any more.
    pub ready: AtomicU64,
    pub histories: Mutex<Vec<History>>,
    /// What no fault explains.
    pub unexpected: Mutex<Vec<String>>,
    /// Writes that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Requests that were sent again after they were acknowledged, and how many of these had another answer than at
    /// first.
    pub repeated: AtomicU64,
    pub answered_otherwise: AtomicU64,
    pub dns_answers: AtomicU64,
    pub dns_went_back: AtomicU64,
    pub canaries: AtomicU64,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            stop_canaries: AtomicBool::new(false),
            ready: AtomicU64::new(0),
            histories: Mutex::new(vec![Vec::new(); REGISTERS]),
            unexpected: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            answered_otherwise: AtomicU64::new(0),
            dns_answers: AtomicU64::new(0),
            dns_went_back: AtomicU64::new(0),
            canaries: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Learns the cluster's time now, before any node comes that leaves again: a client goes on at every member it has
    /// heard of, and where one was there may be a new one that belongs to no cluster yet, whose word it takes.
    async fn begin(&self, client: &Client) {
        while client.cluster_now().is_none() && self.goes_on() {
            let _ = client.status().await;
        }
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the next write is acknowledged; after a while, if none is. Whether one was.
    pub fn await_acknowledgement(&self) -> bool {
        let before = self.acknowledged.load(Ordering::Relaxed);
        // A leader may have to be elected first.
        let until = Instant::now() + Duration::from_secs(10);
        while self.acknowledged.load(Ordering::Relaxed) == before && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.acknowledged.load(Ordering::Relaxed) != before
    }

    pub fn complain(&self, what: String) {
        self.unexpected.lock().unwrap().push(what);
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A client that asks the `n`th of these first.
pub fn client(addresses: &[String], n: usize) -> Client {
    let mut addresses = addresses.to_vec();
    let by = n % addresses.len();
    addresses.rotate_left(by);
    let limits = Limits { deadline: Duration::from_secs(4), attempt: Duration::from_millis(1500), ..Limits::default() };
    Client::new(&addresses, limits, Clock::real()).unwrap()
}

fn write(register: usize, expected: Option<u64>, value: u64) -> v1::ApplyRequest {
    let named = format!("service: reg{register}\nlabels: {{v: \"{value}\"}}");
    v1::ApplyRequest {
        document: spec("strategy: direct").replace("service: shop", &named),
        format: "yaml".into(),
        expected: expected.unwrap_or(0),
        ..v1::ApplyRequest::default()
    }
}

async fn look(client: &Client, register: usize) -> Result<Out, ClientError> {
    let request = v1::GetSpecRequest { deployment: format!("production/reg{register}"), spec: 0 };
    match client.spec(request).await {
        Ok(reply) => {
            let json: serde_json::Value = serde_json::from_str(&reply.json).unwrap();
            let value = json["labels"]["v"].as_str().unwrap_or_else(|| panic!("{json:#}"));
            Ok(Out::Read((reply.spec, value.parse().unwrap())))
        }
        Err(e) if e.reason() == "not_found" => Ok(Out::Read((0, 0))),
        Err(e) => Err(e),
    }
}

/// Does one operation and records it; its outcome, or `None` when nobody knows, and where a write took effect.
pub async fn record(
    shared: &Shared,
    (n, client): (usize, &Client),
    register: usize,
    op: Op,
    request: Option<v1::ApplyRequest>,
) -> (Option<Out>, u64) {
    let called = shared.now();
    let mut index = 0;
    let said = match &op {
        Op::Read => look(client, register).await,
        Op::Write { expected, value } => {
            let request = request.unwrap_or_else(|| write(register, *expected, *value));
            match client.apply(request).await {
                Err(e) if e.reason() == "stale" => Ok(Out::Stale),
                Err(e) => Err(e),
                Ok(reply) => {
                    shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                    index = reply.receipt.map_or(0, |r| r.index);
                    Ok(Out::Written)
                }
            }
        }
    };
    if let Err(e @ (ClientError::Refused { .. } | ClientError::OutOfRange { .. })) = &said {
        shared.complain(format!("{op:?} of reg{register}: {e}"));
    }
    let out = said.ok();
    let returned = out.clone().map(|out| (shared.now(), out));
    if returned.is_some() || op != Op::Read {
        shared.histories.lock().unwrap()[register].push(Call { client: n, op, called, returned });
    }
    (out, index)
}

/// Reads and writes until told to stop.
pub fn writer(shared: &Shared, n: usize, addresses: &[String], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed + n as u64);
    runtime().block_on(async {
        let client = client(addresses, n);
        shared.begin(&client).await;
        let (mut seen, mut value) = ([0; REGISTERS], n as u64 * 1_000_000);
        while shared.goes_on() {
            let register = random.random_range(0..REGISTERS);
            value += 1;
            let op = match random.random_range(0..4) {
                0 | 1 => Op::Read,
                2 => Op::Write { expected: None, value },
                _ => Op::Write { expected: (seen[register] > 0).then_some(seen[register]), value },
            };
            if let (Some(Out::Read((revision, _))), _) = record(shared, (n, &client), register, op, None).await {
                seen[register] = revision;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..40))).await;
        }
    });
}

/// Writes, and sends each request that was acknowledged again a while later, through another node: the answer must be
/// the first.
pub fn repeater(shared: &Shared, n: usize, addresses: &[String], seed: u64) {
    struct Sent {
        again: Instant,
        request: v1::ApplyRequest,
        index: u64,
    }
    let mut random = StdRng::seed_from_u64(seed + n as u64);
    runtime().block_on(async {
        let (first, second) = (client(addresses, n), client(addresses, n + 1));
        shared.begin(&first).await;
        let mut value = n as u64 * 1_000_000;
        let mut sent: VecDeque<Sent> = VecDeque::new();
        while shared.goes_on() {
            let now = first.cluster_now().unwrap_or_default();
            value += 1;
            let register = random.random_range(0..REGISTERS);
            let meta = v1::RequestMeta { request_id: format!("chaos-{n}-{value}"), not_after_ms: now + NOT_AFTER };
            let request = v1::ApplyRequest { request: Some(meta), ..write(register, None, value) };
            let op = Op::Write { expected: None, value };
            let (out, index) = record(shared, (n, &first), register, op, Some(request.clone())).await;
            if out == Some(Out::Written) {
                let again = Instant::now() + Duration::from_millis(random.random_range(200..9000));
                sent.push_back(Sent { again, request, index });
            }
            for _ in 0..sent.len() {
                let Some(one) = sent.pop_front() else { break };
                if one.again > Instant::now() {
                    sent.push_back(one);
                    continue;
                }
                match second.apply(one.request.clone()).await {
                    Ok(reply) => {
                        shared.repeated.fetch_add(1, Ordering::Relaxed);
                        let told = reply.receipt.unwrap_or_default();
                        if told.index != one.index || !told.repeated {
                            shared.answered_otherwise.fetch_add(1, Ordering::Relaxed);
                            shared.complain(format!("a repeat of what took effect at {} was told {told:?}", one.index));
                        }
                    }
                    Err(e @ (ClientError::Refused { .. } | ClientError::OutOfRange { .. })) => {
                        shared.answered_otherwise.fetch_add(1, Ordering::Relaxed);
                        shared.complain(format!("a repeat of what took effect at {}: {e}", one.index));
                    }
                    // No answer at the moment: once more, later.
                    Err(_) => sent.push_back(Sent { again: Instant::now() + Duration::from_millis(500), ..one }),
                }
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(20..120))).await;
        }
    });
}

/// The generation in the status record of the shop, as one node gives it.
fn generation(server: SocketAddr) -> Option<(u64, u64)> {
    let name = Name::from_ascii("_rollout.shop.production.svc.slipway.internal.").unwrap();
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::TXT));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
    socket.send(&question.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).ok()?;
    let answer = Message::from_vec(&buffer[..n]).ok()?;
    let text = answer.answers.iter().find_map(|r| match &r.data {
        RData::TXT(txt) => Some(txt.to_string()),
        _ => None,
    })?;
    let told = text.split("gen=").nth(1)?.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let (incarnation, index) = told.split_once('.')?;
    Some((incarnation.parse().ok()?, index.parse().ok()?))
}

/// Asks one node again and again; its generation may never go back, over restarts too.
pub fn asker(shared: &Shared, server: SocketAddr) {
    let mut newest = (0, 0);
    while shared.goes_on() {
        if let Some(told) = generation(server) {
            shared.dns_answers.fetch_add(1, Ordering::Relaxed);
            if told < newest {
                shared.dns_went_back.fetch_add(1, Ordering::Relaxed);
                shared.complain(format!("{server} answered generation {told:?} after {newest:?}"));
            }
            newest = newest.max(told);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Canary after canary between two versions; the last one must end after everything is healed.
pub fn canaries(shared: &Shared, addresses: &[String]) {
    runtime().block_on(async {
        let client = client(addresses, 0);
        shared.begin(&client).await;
        for n in 0.. {
            let version = if n % 2 == 0 { "2.0.0" } else { "1.0.0" };
            let Some(id) = start(shared, &client, n, version).await else { return };
            let end = loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                match client.rollout(v1::GetRolloutRequest { rollout: id.clone(), ..Default::default() }).await {
                    Ok(r) if r.terminal => break r,
                    Err(e @ ClientError::Refused { .. }) => return shared.complain(format!("{id}: {e}")),
                    Ok(_) | Err(_) => {}
                }
            };
            if end.status != "completed" {
                return shared.complain(format!("{id} to {version} ended as {}: {}", end.status, end.reason));
            }
            shared.canaries.fetch_add(1, Ordering::Relaxed);
            if shared.stop_canaries.load(Ordering::Relaxed) {
                return;
            }
        }
    });
}

/// Asks for a rollout under one request id until the answer is known.
async fn start(shared: &Shared, client: &Client, n: u32, version: &str) -> Option<String> {
    for sent in 0.. {
        let meta = v1::RequestMeta {
            request_id: format!("canary-{n}"),
            not_after_ms: client.cluster_now().unwrap_or_default() + NOT_AFTER,
        };
        let request = v1::StartRequest {
            request: Some(meta),
            deployment: "production/shop".into(),
            version: version.into(),
            ..v1::StartRequest::default()
        };
        match client.start_rollout(request).await {
            Ok(reply) => return Some(reply.rollout),
            Err(e @ ClientError::Refused { .. }) => {
                shared.complain(format!("canary {n} to {version}, sent {sent} times before: {e}"));
                return None;
            }
            Err(_) => {}
        }
    }
    None
}
