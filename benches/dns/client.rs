//! The load client: one thread, one connected socket, many datagrams a system call, a fixed number outstanding or a
//! fixed rate.
//!
//! The same for every server. Only right answers count: each is compared with its question and its service's addresses
//! (an echo with what was sent). An answer that is wrong or late is told apart from one that is right, and never
//! counted as one.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{
    mmsg::{BATCH, Datagrams},
    names,
};

/// Queries under way at a time; a socket's default buffer holds no more.
pub const OUTSTANDING: usize = 192;
/// After so long without any answer everything under way is lost.
const SILENCE: Duration = Duration::from_millis(100);
const SLOT_BITS: u32 = 8;

/// What is asked, in turn.
pub struct Questions {
    /// Query and service, in an order without rhythm.
    all: Vec<(Vec<u8>, u32)>,
    echo: bool,
}

impl Questions {
    /// Each service once, by the name that `name` gives it, shuffled.
    pub fn new(services: u32, name: impl Fn(u32) -> String) -> Self {
        let mut all: Vec<(Vec<u8>, u32)> = (1..=services).map(|n| (names::query(&name(n)), n)).collect();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for i in (1..all.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            all.swap(i, (random >> 33) as usize % (i + 1));
        }
        Self { all, echo: false }
    }

    /// The same, and each answer is to be the question itself.
    pub fn echoed(self) -> Self {
        Self { echo: true, ..self }
    }

    fn is_right(&self, question: usize, response: &[u8]) -> bool {
        let (query, service) = &self.all[question];
        if self.echo {
            response.len() == query.len() && response[2..] == query[2..]
        } else {
            names::is_right(query, *service, response)
        }
    }
}

/// What came of a measurement.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub right: u64,
    pub wrong: u64,
    pub lost: u64,
    pub seconds: f64,
    /// Of each right answer, in microseconds; only at a fixed rate.
    pub latencies: Vec<u32>,
}

impl Outcome {
    /// Right answers a second.
    pub fn per_s(&self) -> f64 {
        self.right as f64 / self.seconds
    }

    /// A percentile of the latencies in milliseconds; what was lost counts as longest.
    pub fn percentile_ms(&mut self, of: f64) -> f64 {
        self.latencies.sort_unstable();
        let all = self.latencies.len() as u64 + self.lost;
        let at = (all as f64 * of / 100.0) as usize;
        self.latencies.get(at).map_or(f64::INFINITY, |us| f64::from(*us) / 1000.0)
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// What the id's upper half must be: tells a late answer from the one that is waited for.
    round: u8,
    waiting: bool,
    question: usize,
    due: u32,
}

/// A socket and what is under way on it.
pub struct Client {
    socket: UdpSocket,
    out: Datagrams,
    inward: Datagrams,
    slots: Vec<Slot>,
    free: Vec<usize>,
    next: usize,
}

impl Client {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("a server");
        socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
        Self {
            socket,
            out: Datagrams::new(true),
            inward: Datagrams::new(true),
            slots: vec![Slot::default(); 1 << SLOT_BITS],
            free: Vec::new(),
            next: 0,
        }
    }

    fn begin(&mut self, slots: usize) {
        self.free = (0..slots).collect();
        for slot in &mut self.slots {
            *slot = Slot { round: slot.round.wrapping_add(1), ..Slot::default() };
        }
    }

    /// Keeps so many queries under way for so long.
    pub fn saturate(&mut self, questions: &Questions, outstanding: usize, span: Duration) -> Outcome {
        self.begin(outstanding);
        let (mut outcome, began) = (Outcome::default(), Instant::now());
        while began.elapsed() < span {
            while !self.free.is_empty() {
                self.ask(questions, BATCH, 0);
            }
            self.hear(questions, true, &mut outcome, None);
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        outcome
    }

    /// Sends `rate` queries a second, whatever comes back, and notes how long each answer took from when its query was
    /// due.
    pub fn pace(&mut self, questions: &Questions, rate: f64, span: Duration) -> Outcome {
        self.begin(1 << SLOT_BITS);
        let (mut outcome, began, mut sent) = (Outcome::default(), Instant::now(), 0_u64);
        loop {
            let now = began.elapsed();
            if now >= span {
                break;
            }
            let due = ((now.as_secs_f64() * rate) as u64).saturating_sub(sent);
            if due > 0 && !self.free.is_empty() {
                // All of a batch were due by now; the first of them by a little more, which is counted from its own
                // time.
                let first = (sent as f64 / rate * 1e6) as u32;
                sent += self.ask(questions, (due as usize).min(BATCH), first) as u64;
            }
            self.hear(questions, false, &mut outcome, Some(began));
        }
        while self.slots.iter().any(|s| s.waiting) && began.elapsed() < span + SILENCE {
            self.hear(questions, false, &mut outcome, Some(began));
        }
        outcome.lost += self.slots.iter().filter(|s| s.waiting).count() as u64;
        outcome.seconds = span.as_secs_f64();
        outcome
    }

    fn ask(&mut self, questions: &Questions, most: usize, due: u32) -> usize {
        let mut n = 0;
        while n < most.min(BATCH) {
            let Some(place) = self.free.pop() else { break };
            let question = self.next;
            self.next = (self.next + 1) % questions.all.len();
            let slot = &mut self.slots[place];
            *slot = Slot { round: slot.round.wrapping_add(1), waiting: true, question, due };
            let query = &questions.all[question].0;
            let buffer = self.out.buffer(n);
            buffer[..query.len()].copy_from_slice(query);
            buffer[..2].copy_from_slice(&[slot.round, u8::try_from(place).expect("256 slots")]);
            self.out.set_outgoing(n, query.len());
            n += 1;
        }
        let (refused, why) = self.out.send(&self.socket, n);
        assert!(refused == 0, "the client cannot send: {why:?}");
        n
    }

    fn hear(&mut self, questions: &Questions, wait: bool, outcome: &mut Outcome, began: Option<Instant>) {
        let n = match self.inward.receive(&self.socket, wait) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if wait {
                    outcome.lost += self.slots.iter().filter(|s| s.waiting).count() as u64;
                    let slots = self.slots.iter().filter(|s| s.waiting).count() + self.free.len();
                    self.begin(slots);
                }
                return;
            }
            Err(e) => panic!("the server is gone: {e}"),
        };
        let now = began.map(|b| b.elapsed().as_micros() as u32);
        for at in 0..n {
            let length = self.inward.received(at);
            let response = &self.inward.buffer(at)[..length];
            let place = usize::from(response.get(1).copied().unwrap_or_default());
            let slot = &mut self.slots[place];
            if length < 12 || !slot.waiting || response[0] != slot.round {
                // Late, or nothing that was asked for.
                continue;
            }
            if questions.is_right(slot.question, response) {
                outcome.right += 1;
                if let Some(now) = now {
                    outcome.latencies.push(now.saturating_sub(slot.due));
                }
            } else {
                outcome.wrong += 1;
            }
            slot.waiting = false;
            self.free.push(place);
        }
    }
}
