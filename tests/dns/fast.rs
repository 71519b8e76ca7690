//! The fast path against the long way: the same question and the same view give the same message, but for the order of
//! records.
//!
//! Random choices are made comparable by asking the long way often: what the fast path says must be among what it says.
//! Services have eight endpoints of a version at most there, so that a version means its whole set.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::Message,
    rr::{RData, Record, RecordType},
};
use proptest::prelude::*;
use slipway::{
    clock::Clock,
    dns::{DnsLimits, DnsSettings, Rates, Responder, Transport, ViewStore},
    state::RouteMode,
};

use crate::fixture::{SHOP, Serving, World, edns, query, settings};

/// Tries of the long way; a version with a hundredth of the weight is missed by all of them once in 10^13.
const TRIES: usize = 3000;

fn client(port: u16) -> SocketAddr {
    ([192, 0, 2, 7], port).into()
}

fn responder(world: &World) -> Responder {
    let store = Arc::new(ViewStore::new());
    store.set_node(2);
    store.publish(&world.state());
    store.set_ready(true);
    Responder::new(store, Clock::manual(0))
}

/// Everything that a message says, with each section in one order; names as they are spelt, but for the owners of
/// records, which may be pointers to the question.
fn said(bytes: &[u8]) -> String {
    let m = Message::from_vec(bytes).unwrap();
    let section = |records: &[Record]| {
        let mut all: Vec<String> = records
            .iter()
            .map(|r| format!("{} {} {} {:?}", r.name.to_lowercase(), r.record_type(), r.ttl, r.data).to_lowercase())
            .collect();
        all.sort();
        all
    };
    let (answers, soa, more) = (section(&m.answers), section(&m.authorities), section(&m.additionals));
    format!("{:?}\n{:?}\n{answers:#?}\n{soa:#?}\n{more:#?}\n{:?}", m.metadata, m.queries, m.edns)
}

/// Whether the fast path takes the question; fails when it does and answers what the long way never does.
fn agrees(responder: &Responder, raw: &[u8]) -> bool {
    // Each try from a port of its own: siblings are told apart below.
    let Some(fast) = responder.respond_fast(raw, client(1)) else { return false };
    assert!(fast.len() <= 1232);
    let fast = said(&fast);
    let mut others = BTreeSet::new();
    for n in 0..TRIES {
        let long = responder.respond(raw, client(1000 + n as u16), Transport::Udp).expect("an answer");
        let long = said(&long);
        if long == fast {
            return true;
        }
        others.insert(long);
    }
    panic!(
        "the fast path says\n{fast}\nand the long way one of\n{}",
        others.into_iter().collect::<Vec<_>>().join("\nor\n")
    );
}

#[derive(Debug, Clone)]
struct Setup {
    stable: (u32, u32),
    candidate: (u32, u32),
    weight: u32,
    blue_green: bool,
    ttl: u64,
}

impl Setup {
    /// IPv4 and IPv6 endpoints of each version.
    fn world(&self) -> World {
        let mut w = World::shop(self.stable.0, self.candidate.0, (10_000 - self.weight, self.weight));
        for n in 0..self.stable.1 {
            w.instance(300, n, "1.0.0", &format!("fd00::1:{n}"));
        }
        for n in 0..self.candidate.1 {
            w.instance(400, n, "2.0.0", &format!("fd00::2:{n}"));
        }
        let mode = if self.blue_green { RouteMode::Switch } else { RouteMode::Weighted };
        w.route_as(mode, self.ttl, 10_000 - self.weight, self.weight);
        w
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    let weight = prop_oneof![Just(0_u32), Just(10_000), Just(100), 1000_u32..9000];
    let family = || (0_u32..5, 0_u32..4);
    (family(), family(), weight, any::<bool>(), prop_oneof![Just(0_u64), 1_u64..60])
        .prop_map(|(stable, candidate, weight, blue_green, ttl)| Setup { stable, candidate, weight, blue_green, ttl })
}

fn names() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        Just(""),
        Just("stable."),
        Just("canary."),
        Just("active."),
        Just("preview."),
        Just("previous."),
        Just("mix."),
        Just("v-1-0-0."),
        Just("v-2-0-0."),
        Just("v-9-9-9."),
        Just("i-100-0."),
        Just("k-alice."),
        Just("k-bob_7."),
        Just("t-acme."),
        Just("nothing."),
        Just("_rollout."),
    ];
    let port = prop_oneof![3 => Just(""), 1 => Just("_http._tcp."), 1 => Just("_admin._tcp."), 1 => Just("_http._udp."), 1 => Just("_tcp.")];
    let service = prop_oneof![
        8 => Just(SHOP),
        1 => Just("none.production.svc.slipway.internal."),
        1 => Just("shop.staging.svc.slipway.internal."),
        1 => Just("production.svc.slipway.internal."),
        1 => Just("x.slipway.internal."),
        1 => Just("slipway.internal."),
        1 => Just("shop.production.svc.example.com."),
    ];
    (port, prefix, service, any::<u64>()).prop_map(|(port, prefix, service, case)| {
        let name = format!("{port}{prefix}{service}");
        let case = |(i, c): (usize, char)| if case >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c };
        name.chars().enumerate().map(case).collect()
    })
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => Just(RecordType::A),
        4 => Just(RecordType::AAAA),
        4 => Just(RecordType::SRV),
        1 => Just(RecordType::TXT),
        1 => Just(RecordType::ANY),
    ];
    let opt = prop_oneof![3 => Just(None), 3 => (0_u16..5000, any::<bool>()).prop_map(Some)];
    (names(), kind, opt, any::<[bool; 4]>()).prop_map(|(name, kind, opt, [rd, ad, cd, _])| {
        let mut m = query(&name, kind);
        (m.metadata.recursion_desired, m.metadata.authentic_data, m.metadata.checking_disabled) = (rd, ad, cd);
        if let Some((size, dnssec_ok)) = opt {
            m = edns(m, size, 0);
            m.edns.as_mut().unwrap().set_dnssec_ok(dnssec_ok);
        }
        m.to_vec().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_the_fast_path_says_the_long_way_says(setup in setups(), questions in proptest::collection::vec(messages(), 1..12)) {
        let responder = responder(&setup.world());
        let common = query(SHOP, RecordType::A).to_vec().unwrap();
        prop_assert!(agrees(&responder, &common), "the fast path took it");
        for raw in questions {
            agrees(&responder, &raw);
        }
    }

    /// Bytes changed, cut and added: whatever the fast path still takes for a question, the long way answers the same.
    #[test]
    fn a_damaged_question_is_answered_the_same_or_left_alone(
        raw in messages(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        tail in proptest::collection::vec(any::<u8>(), 0..3),
    ) {
        let setup = Setup { stable: (3, 2), candidate: (1, 0), weight: 0, blue_green: false, ttl: 5 };
        let mut raw = raw;
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        if let Some(cut) = cut {
            raw.truncate(cut.index(raw.len()));
        }
        raw.extend(tail);
        agrees(&responder(&setup.world()), &raw);
    }
}

#[test]
fn common_questions_take_the_fast_path() {
    let responder = responder(&World::shop(5, 5, (9000, 1000)));
    for name in [
        SHOP.to_owned(),
        SHOP.to_uppercase(),
        format!("v-1-0-0.{SHOP}"),
        format!("canary.{SHOP}"),
        format!("none.{SHOP}"),
    ] {
        for kind in [RecordType::A, RecordType::AAAA] {
            let plain = query(&name, kind);
            assert!(agrees(&responder, &plain.to_vec().unwrap()), "{name} {kind}");
            assert!(agrees(&responder, &edns(plain, 1232, 0).to_vec().unwrap()), "{name} {kind} with EDNS");
        }
    }
    let srv = edns(query(&format!("_http._tcp.{SHOP}"), RecordType::SRV), 1232, 0);
    assert!(agrees(&responder, &srv.to_vec().unwrap()));
    assert!(!agrees(&responder, &query(&format!("mix.{SHOP}"), RecordType::SRV).to_vec().unwrap()));
    assert!(!agrees(&responder, &query("example.com.", RecordType::A).to_vec().unwrap()));
}

/// Over the socket and so by the fast path: the deck is exact, siblings agree, eight of many are named and each as
/// often.
#[tokio::test]
async fn the_fast_path_deals_from_the_same_deck() {
    let serving = Serving::start(&World::shop(20, 3, (9000, 1000))).await;
    let client = serving.client().await;
    let mut versions = BTreeMap::new();
    let mut seen: BTreeMap<_, u32> = BTreeMap::new();
    for _ in 0..200 {
        let answer = client.ask(SHOP, RecordType::A).await;
        let addresses: BTreeSet<_> = crate::fixture::addresses(&answer).into_iter().collect();
        let version = crate::fixture::version(&addresses.iter().copied().collect::<Vec<_>>());
        assert_eq!(addresses.len(), if version == 1 { 8 } else { 3 });
        *versions.entry(version).or_insert(0) += 1;
        addresses.into_iter().for_each(|a| *seen.entry(a).or_default() += 1);
        let sibling = client.send(&edns(query(SHOP, RecordType::SRV), 1232, 0)).await.1;
        let data = sibling.additionals.iter().chain(&sibling.answers).find_map(|r| match &r.data {
            RData::A(a) => Some(a.0.octets()[2]),
            _ => None,
        });
        assert!(data.is_none_or(|of| of == version), "siblings agree");
    }
    assert_eq!(versions, BTreeMap::from([(1, 180), (2, 20)]));
    // 180 answers of 8 out of 20: 72 of each, give or take five standard deviations.
    assert_eq!(seen.len(), 23);
    assert!(seen.iter().filter(|(a, _)| a.octets()[2] == 1).all(|(_, n)| (39..=105).contains(n)), "{seen:?}");
    assert_eq!(serving.responder.counts().udp, 400);
    serving.stop().await;
}

/// What is over its rate is withheld or cut by the fast path as by the long way.
#[tokio::test]
async fn the_fast_path_counts_against_the_same_rates() {
    let rates = Rates { answers: 5, negative: 5, errors: 5, slip: 2, exempt: Vec::new() };
    let limited = DnsSettings { rates, ..settings() };
    let world = World::shop(3, 3, (10_000, 0));
    let serving = Serving::start_with(&world, DnsLimits::default(), limited.clone()).await;
    let store = Arc::new(ViewStore::new());
    store.publish(&world.state());
    store.set_ready(true);
    let long = Responder::with(store, Clock::manual(0), limited);
    let client = serving.client().await;
    for name in [SHOP.to_owned(), format!("none.{SHOP}")] {
        let raw = edns(query(&name, RecordType::A), 1232, 0).to_vec().unwrap();
        let mut wanted = Vec::new();
        for _ in 0..40 {
            client.send_bytes(&raw).await;
            wanted.extend(long.respond(&raw, ([127, 0, 0, 1], 9).into(), Transport::Udp).map(|r| said(&r)));
        }
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            got.push(said(&client.receive().await.1.to_vec().unwrap()));
        }
        wanted.sort();
        got.sort();
        assert_eq!(got, wanted);
        assert!(
            got.len() < 40 && got.iter().any(|m| m.contains("truncation: true")),
            "some were withheld, some cut: {got:?}"
        );
    }
    // The last ones may have been withheld: nothing says that they were read.
    let all = async {
        while serving.responder.counts().udp < 80 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), all).await.expect("all are read");
    let counts = |r: &Responder| (r.counts().udp, r.counts().limited, r.counts().slipped, r.counts().rcodes);
    assert_eq!(counts(&serving.responder), counts(&long));
    serving.stop().await;
}
