//! Bytes that are almost queries: a corpus that grows by what gets a new kind of response, bent at random from a seed.
//!
//! Every response decodes, is within its size, has the id and the question of the query; responses and scraps are never
//! answered. `make dns-fuzz` runs more cases of the same (`SLIPWAY_DNS_FUZZ`); its report is one JSON object of counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use hickory_proto::{
    op::Message,
    rr::{DNSClass, RecordType},
};
use slipway::dns::{Responder, Transport, UDP_MAX};

use crate::{
    citizen::responder,
    fixture::{SHOP, class, edns, query, settings},
};

/// Cases of an ordinary test run.
const CASES: u64 = 20_000;
/// Inputs kept.
const CORPUS: usize = 4096;

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Small numbers and pointers mean more than others.
        match self.below(4) {
            0 => [0, 1, 2, 12, 41, 63, 64, 0x80, 0xc0, 0xff][self.below(10)],
            _ => u8::try_from(self.next() & 0xff).unwrap(),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let names = [
        SHOP.to_string(),
        "SLIPWAY.internal.".into(),
        "svc.slipway.internal.".into(),
        "ns1.slipway.internal.".into(),
        "_api._tcp.slipway.internal.".into(),
        "_dns-version.slipway.internal.".into(),
        "1.1.0.10.in-addr.arpa.".into(),
        "10.in-addr.arpa.".into(),
        "d.f.ip6.arpa.".into(),
        "example.com.".into(),
        ".".into(),
        format!("_rollout.{SHOP}"),
        format!("_http._tcp.{SHOP}"),
        format!("_http._tcp.k-alice.{SHOP}"),
        format!("v-1-0-0.{SHOP}"),
        format!("i-100-0.{SHOP}"),
        format!("t-acme.{SHOP}"),
        format!("mix.{SHOP}"),
        format!("preview.{SHOP}"),
    ];
    let kinds = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::SRV,
        RecordType::TXT,
        RecordType::ANY,
        RecordType::PTR,
        RecordType::SOA,
        RecordType::NS,
        RecordType::IXFR,
    ];
    let mut out = Vec::new();
    for (n, name) in names.iter().enumerate() {
        for (k, kind) in kinds.into_iter().enumerate() {
            let m = query(name, kind);
            let m = match (n + k) % 4 {
                0 => m,
                1 => edns(m, 4096, 0),
                2 => edns(m, 512, 1),
                _ => class(m, if k.is_multiple_of(2) { DNSClass::CH } else { DNSClass::ANY }),
            };
            out.push(m.to_vec().unwrap());
        }
    }
    // Cookies, NSID, and options of odd lengths, by hand.
    for options in [
        &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8][..],
        &[0, 3, 0, 0],
        &[0, 10, 0, 3, 1, 2, 3],
        &[0, 8, 0, 7, 0, 1, 24, 0, 10, 0, 1],
    ] {
        let mut bytes = query(SHOP, RecordType::A).to_vec().unwrap();
        bytes[11] = 1;
        bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0]);
        bytes.push(u8::try_from(options.len()).unwrap());
        bytes.extend(options);
        out.push(bytes);
    }
    out
}

/// Changes a question so that it stays one: what is behind the decoder sees these.
fn nudge(random: &mut Random, bytes: &mut [u8]) {
    let Some(end) = question(bytes).map(|q| 12 + q.len()) else { return };
    match random.below(5) {
        0 => bytes[12..end].iter_mut().filter(|b| b.is_ascii_alphabetic()).for_each(|b| *b ^= 0x20 & random.byte()),
        1 => bytes[end - 3] = [1, 28, 33, 16, 12, 6, 2, 5, 65, 255][random.below(10)],
        2 => {
            // An octet of a label; now and then it is a length.
            let at = 12 + random.below(end - 16);
            bytes[at] = if bytes[at] < 64 { bytes[at] } else { random.byte() };
        }
        3 => (bytes[0], bytes[2]) = (random.byte(), bytes[2] & 0xfe | random.byte() & 1),
        _ => {
            // Size and flags of EDNS, where it follows at once.
            for at in end + 3..(end + 5).min(bytes.len()) {
                bytes[at] = random.byte();
            }
        }
    }
}

fn bend(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    if random.below(2) == 0 {
        for _ in 0..=random.below(3) {
            nudge(random, &mut bytes);
        }
        return bytes;
    }
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 | 1 if !bytes.is_empty() => bytes[at] = random.byte(),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at),
            4 => bytes.insert(at.min(bytes.len()), random.byte()),
            5 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            6 => {
                // The counts of the header, and its flags.
                let field = 2 + random.below(10);
                if let Some(byte) = bytes.get_mut(field) {
                    *byte = random.byte() & 3;
                }
            }
            7 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let pointer = [0xc0 | random.byte() & 1, random.byte() & 0x3f];
                for (n, byte) in pointer.into_iter().enumerate() {
                    if let Some(place) = bytes.get_mut(at + n) {
                        *place = byte;
                    }
                }
            }
        }
    }
    bytes.truncate(4096);
    bytes
}

/// The octets of a question that is written without pointers.
fn question(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        match *bytes.get(at)? {
            0 => return bytes.get(12..at + 5),
            n if n < 64 => at += 1 + usize::from(n),
            _ => return None,
        }
    }
}

/// What kind of response it was: what a growing corpus is after.
type Signature = (u16, bool, bool, usize, usize, usize, bool);

/// Asks and checks what must hold for every input.
fn check(r: &Responder, bytes: &[u8], transport: Transport) -> Option<(Signature, usize)> {
    let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let out = r.respond(bytes, client, transport);
    let wanted = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
    assert_eq!(out.is_some(), wanted, "QR=1 and scraps get nothing, all else gets something: {bytes:02x?}");
    let out = out?;
    assert!(transport == Transport::Tcp || out.len() <= usize::from(UDP_MAX), "{} octets: {bytes:02x?}", out.len());
    assert_eq!(out[..2], bytes[..2], "the id: {bytes:02x?}");
    assert!(out[2] & 0x80 != 0 && out[2] & 0x78 == bytes[2] & 0x78, "QR and the operation: {bytes:02x?}");
    let m = Message::from_vec(&out).unwrap_or_else(|e| panic!("{e}: {bytes:02x?} got {out:02x?}"));
    if m.edns.is_none() {
        assert!(transport == Transport::Tcp || out.len() <= 512, "{} octets without EDNS: {bytes:02x?}", out.len());
    }
    if let (1, Some(asked)) = (m.queries.len(), question(bytes)) {
        assert_eq!(question(&out), Some(asked), "the question, letter by letter: {bytes:02x?}");
    }
    let code = u16::from(m.metadata.response_code);
    let bucket = out.len() / 64;
    let signature = (
        code,
        m.metadata.truncation,
        m.edns.is_some(),
        m.answers.len(),
        m.authorities.len(),
        bucket,
        m.queries.is_empty(),
    );
    Some((signature, out.len()))
}

#[test]
fn bent_queries_are_answered_within_bounds_or_not_at_all() {
    let number = |key: &str, other: u64| std::env::var(key).ok().map_or(other, |v| v.parse().expect("a number"));
    let (cases, seed) = (number("SLIPWAY_DNS_FUZZ", CASES), number("SLIPWAY_DNS_FUZZ_SEED", 1));
    let (r, _) = responder(settings());
    let (mut random, mut corpus) = (Random(seed), seeds());
    let (mut seen, mut codes) = (BTreeSet::new(), BTreeMap::<u16, u64>::new());
    let (mut answered, mut largest, mut slowest) = (0_u64, 0, 0);
    for n in 0..cases {
        let bytes = match corpus.get(usize::try_from(n).unwrap()).filter(|_| n < 180) {
            Some(seed) => seed.clone(),
            None => bend(&mut random, &corpus),
        };
        let transport = if random.below(4) == 0 { Transport::Tcp } else { Transport::Udp };
        let begun = Instant::now();
        let found = check(&r, &bytes, transport);
        slowest = slowest.max(begun.elapsed().as_micros());
        let Some((signature, size)) = found else { continue };
        answered += 1;
        largest = largest.max(size);
        *codes.entry(signature.0).or_default() += 1;
        if seen.insert(signature) && corpus.len() < CORPUS {
            corpus.push(bytes);
        }
    }
    assert_eq!(r.counts().panics, 0, "nothing inside may fail");
    assert!(seen.len() > 20 || cases < CASES, "{} kinds of responses are few: the seeds no longer work", seen.len());
    let codes: Vec<String> = codes.iter().map(|(code, n)| format!("\"{code}\":{n}")).collect();
    let report = format!(
        "{{\"cases\":{cases},\"seed\":{seed},\"answered\":{answered},\"silent\":{},\"rcodes\":{{{}}},\"kinds\":{},\"corpus\":{},\"largest\":{largest},\"slowest_us\":{slowest},\"panics\":0}}\n",
        cases - answered,
        codes.join(","),
        seen.len(),
        corpus.len(),
    );
    if let Ok(path) = std::env::var("SLIPWAY_DNS_FUZZ_REPORT") {
        std::fs::write(path, &report).unwrap();
    }
    print!("{report}");
}
