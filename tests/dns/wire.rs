//! Messages: sizes, truncation, versions, operations, limits, and bytes that are no query at all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RecordType, rdata::opt::EdnsCode},
};
use proptest::prelude::*;
use slipway::{
    clock::Clock,
    dns::{DnsLimits, Responder, Transport, ViewStore},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    fixture::{SHOP, Serving, World, class, edns, query, settings, tcp_ask},
    helpers::skip::skip,
};

#[tokio::test]
async fn a_big_answer_is_cut_whole_over_udp_and_complete_over_tcp() {
    let serving = Serving::start(&World::shop(60, 40, (9000, 1000))).await;
    let client = serving.client().await;
    let mix = query(&format!("mix.{SHOP}"), RecordType::SRV);
    for (m, limit) in [(mix.clone(), 512), (edns(mix.clone(), 4096, 0), 1232), (edns(mix.clone(), 100, 0), 512)] {
        let (n, r) = client.send(&m).await;
        assert!(n <= limit, "{n} bytes");
        assert!(r.metadata.truncation && r.answers.is_empty() && r.additionals.is_empty());
        assert_eq!(r.edns.as_ref().map(Edns::max_payload), m.edns.as_ref().map(|_| 1232));
        let r = client.tcp(&m).await;
        assert!(!r.metadata.truncation);
        assert_eq!(r.answers.len(), 100);
        assert_eq!(r.edns.is_some(), m.edns.is_some());
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_one_version_answer_is_shortened_instead_of_cut() {
    let serving = Serving::start(&World::shop(30, 30, (5000, 5000))).await;
    let client = serving.client().await;
    let srv = query(&format!("_http._tcp.{SHOP}"), RecordType::SRV);
    let (n, plain) = client.send(&srv).await;
    assert!(n <= 512 && !plain.metadata.truncation);
    assert!((1..8).contains(&plain.answers.len()) && plain.additionals.is_empty(), "{plain:?}");
    let (n, more) = client.send(&edns(srv, 1232, 0)).await;
    assert!(n <= 1232 && !more.metadata.truncation && more.edns.is_some());
    assert_eq!(more.answers.len(), 8);
    serving.stop().await;
}

#[tokio::test]
async fn what_is_not_for_us_is_refused_by_its_own_code() {
    let serving = Serving::start(&World::shop(1, 1, (9000, 1000))).await;
    let client = serving.client().await;
    let op = |code| {
        let mut m = query(SHOP, RecordType::A);
        m.metadata.op_code = code;
        m
    };
    let mut two = query(SHOP, RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut none = query(SHOP, RecordType::A);
    none.queries.clear();
    let cases = [
        (op(OpCode::Status), ResponseCode::NotImp),
        (op(OpCode::Notify), ResponseCode::NotImp),
        (op(OpCode::Update), ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (none, ResponseCode::FormErr),
        (query("slipway.internal.", RecordType::AXFR), ResponseCode::Refused),
        (query("slipway.internal.", RecordType::IXFR), ResponseCode::Refused),
        (class(query("version.bind.", RecordType::TXT), DNSClass::CH), ResponseCode::Refused),
        (class(query(SHOP, RecordType::A), DNSClass::ANY), ResponseCode::Refused),
        (edns(query(SHOP, RecordType::A), 1232, 1), ResponseCode::BADVERS),
    ];
    for (m, code) in cases {
        for r in [client.send(&m).await.1, client.tcp(&m).await] {
            // By number: 16 is both BADVERS and BADSIG.
            assert_eq!(u16::from(r.metadata.response_code), u16::from(code), "{m}");
            assert!(r.answers.is_empty() && !r.metadata.authoritative);
            assert_eq!((r.metadata.op_code, r.metadata.id), (m.metadata.op_code, m.metadata.id));
        }
    }
    let any = client.ask(SHOP, RecordType::ANY).await;
    assert_eq!((any.answers.len(), any.answers[0].record_type()), (1, RecordType::HINFO));
    assert_eq!(serving.responder.counts().panics, 0);
    serving.stop().await;
}

#[tokio::test]
async fn before_it_is_ready_everything_is_servfail_with_a_reason() {
    let serving = Serving::start_unready(DnsLimits::default()).await;
    let client = serving.client().await;
    let world = World::shop(1, 0, (10_000, 0));
    let ask = async || client.send(&edns(query(SHOP, RecordType::A), 1232, 0)).await.1;
    for ready in [false, true] {
        serving.store.set_ready(ready);
        let r = ask().await;
        assert_eq!(r.metadata.response_code, ResponseCode::ServFail, "no cluster yet");
        let option =
            r.edns.as_ref().and_then(|e| e.option(EdnsCode::Unknown(15))).map(|o| Vec::<u8>::try_from(o).unwrap());
        assert_eq!(option, Some([&[0, 14], &b"not ready"[..]].concat()));
    }
    serving.store.set_ready(false);
    serving.publish(&world);
    assert_eq!(ask().await.metadata.response_code, ResponseCode::ServFail, "a view, and no ReadIndex yet");
    serving.store.set_ready(true);
    assert_eq!(ask().await.answers.len(), 1);
    serving.stop().await;
}

#[tokio::test]
async fn responses_and_scraps_are_never_answered() {
    let serving = Serving::start(&World::shop(1, 0, (10_000, 0))).await;
    let client = serving.client().await;
    let mut response = query(SHOP, RecordType::A);
    response.metadata.message_type = MessageType::Response;
    let mut broken = response.to_vec().unwrap();
    broken.truncate(20);
    client.send_bytes(&response.to_vec().unwrap()).await;
    client.send_bytes(&broken).await;
    client.send_bytes(&[0; 11]).await;
    client.send_bytes(&[]).await;
    // The next response to arrive belongs to the next query: nothing came before it.
    let m = query(SHOP, RecordType::A);
    assert_eq!(client.send(&m).await.1.answers.len(), 1);
    // Datagrams may be handled side by side: wait until all have been.
    let all = async {
        while serving.responder.counts().udp < 5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), all).await.unwrap();
    assert_eq!(serving.responder.counts().ignored, 4);
    let m = query(SHOP, RecordType::A);
    assert_eq!(client.send(&m).await.1.metadata.id, m.metadata.id);
    serving.stop().await;
}

#[tokio::test]
async fn tcp_serves_many_queries_and_has_limits() {
    let limits =
        DnsLimits { tcp_per_address: 3, tcp_idle: Duration::from_millis(300), tcp_queries: 5, ..DnsLimits::default() };
    let serving = Serving::start_unready(limits).await;
    serving.publish(&World::shop(1, 0, (10_000, 0)));
    serving.store.set_ready(true);
    let m = query(SHOP, RecordType::A);
    let mut first = TcpStream::connect(serving.address).await.unwrap();
    for _ in 0..5 {
        assert_eq!(tcp_ask(&mut first, &m).await.answers.len(), 1);
    }
    let end = async |stream: &mut TcpStream| {
        let mut rest = [0; 16];
        matches!(timeout(Duration::from_secs(5), stream.read(&mut rest)).await.expect("still open"), Ok(0) | Err(_))
    };
    assert!(end(&mut first).await, "closed after its share of queries");
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        tcp_ask(&mut stream, &m).await;
        open.push(stream);
    }
    let mut fourth = TcpStream::connect(serving.address).await.unwrap();
    assert!(end(&mut fourth).await, "one too many from this address");
    assert_eq!(serving.responder.counts().tcp_refused, 1);
    for mut stream in open {
        assert!(end(&mut stream).await, "closed when idle");
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_stopped_server_frees_its_port() {
    let serving = Serving::start(&World::shop(1, 0, (10_000, 0))).await;
    let address = serving.address;
    let held = TcpStream::connect(address).await.unwrap();
    timeout(Duration::from_secs(5), serving.stop()).await.expect("stops though a connection is open");
    drop(held);
    tokio::net::UdpSocket::bind(address).await.unwrap();
}

#[tokio::test]
async fn on_a_wildcard_the_address_that_was_asked_answers() {
    for (bind, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::1]:0", "::1"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.3")] {
        let udp = match tokio::net::UdpSocket::bind(bind).await {
            Ok(udp) => udp,
            Err(e) if bind.starts_with('[') => {
                let part = "on_a_wildcard_the_address_that_was_asked_answers/ipv6";
                return skip(part, &format!("{bind}: {e}"));
            }
            Err(e) => panic!("{bind}: {e}"),
        };
        let port = udp.local_addr().unwrap().port();
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = Serving::with(udp, tcp, DnsLimits::default(), settings());
        serving.publish(&World::shop(1, 0, (10_000, 0)));
        serving.store.set_ready(true);
        let any = if asked.contains(':') { "[::1]:0" } else { "127.0.0.1:0" };
        let client = tokio::net::UdpSocket::bind(any).await.unwrap();
        // Connected: the kernel hands on what comes from this address alone.
        client.connect((asked, port)).await.unwrap();
        let question = query(SHOP, RecordType::A);
        client.send(&question.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 512];
        let n = timeout(Duration::from_secs(5), client.recv(&mut buffer)).await.expect(asked).unwrap();
        let answer = Message::from_vec(&buffer[..n]).unwrap();
        assert!(answer.id == question.id && answer.answers.len() == 1, "{asked}: {answer}");
        serving.stop().await;
    }
}

fn responder() -> Responder {
    let store = Arc::new(ViewStore::new());
    store.publish(&World::shop(20, 20, (5000, 5000)).state());
    store.set_ready(true);
    Responder::new(store, Clock::manual(0))
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..600);
    // A good query with some bytes changed gets much further than noise.
    let names =
        prop_oneof![Just(SHOP.to_string()), Just(format!("_http._tcp.mix.{SHOP}")), Just(format!("v-1-0-0.{SHOP}"))];
    let kinds = prop_oneof![
        Just(RecordType::A),
        Just(RecordType::SRV),
        Just(RecordType::ANY),
        any::<u16>().prop_map(RecordType::from)
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let bent = (names, kinds, any::<(u16, u8)>(), edits, any::<bool>(), any::<prop::sample::Index>()).prop_map(
        |(name, kind, (size, version), edits, cut, at)| {
            let mut bytes = edns(query(&name, kind), size, version % 2).to_vec().unwrap();
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if cut {
                bytes.truncate(at.index(bytes.len() + 1));
            }
            bytes
        },
    );
    prop_oneof![noise, bent]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_are_answered_within_bounds_or_not_at_all(bytes in any_bytes(), tcp: bool) {
        thread_local! { static RESPONDER: Responder = responder(); }
        let client: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let out = RESPONDER.with(|r| {
            let out = r.respond(&bytes, client, transport);
            (out, r.counts().panics)
        });
        prop_assert_eq!(out.1, 0, "nothing inside may fail");
        let wanted = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
        prop_assert_eq!(out.0.is_some(), wanted, "QR=1 and scraps get nothing, all else gets something");
        if let Some(out) = out.0 {
            prop_assert!(tcp || out.len() <= 1232, "{} bytes", out.len());
            prop_assert_eq!(&out[..2], &bytes[..2]);
            prop_assert!(out[2] & 0x80 != 0);
            Message::from_vec(&out).unwrap();
        }
    }
}
