//! A good citizen: cookies, rates, NSID, malformed names and options, and TCP clients that are many, slow or silent.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{
        RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use slipway::{
    clock::Clock,
    dns::{Cookies, DnsLimits, DnsSettings, Rates, Responder, Transport, ViewStore},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::fixture::{SHOP, Serving, World, edns, query, settings, tcp_ask};

const PATIENCE: Duration = Duration::from_secs(10);

/// A responder alone, and its clock.
pub fn responder(settings: DnsSettings) -> (Responder, Clock) {
    let (store, clock) = (Arc::new(ViewStore::new()), Clock::manual(1_700_000_000_000));
    store.publish(&World::shop(20, 20, (5000, 5000)).state());
    store.set_ready(true);
    (Responder::with(store, clock.clone(), settings), clock)
}

fn with_option(mut m: Message, code: u16, data: &[u8]) -> Message {
    m = edns(m, 1232, 0);
    let edns = m.edns.as_mut().unwrap();
    edns.options_mut().insert(EdnsOption::Unknown(code, data.to_vec()));
    m
}

fn option(m: &Message, code: EdnsCode) -> Option<Vec<u8>> {
    m.edns.as_ref().and_then(|e: &Edns| e.option(code)).map(|o| Vec::<u8>::try_from(o).unwrap())
}

fn ask(r: &Responder, bytes: &[u8], from: &str, transport: Transport) -> Option<Message> {
    let out = r.respond(bytes, from.parse().unwrap(), transport)?;
    Some(Message::from_vec(&out).unwrap())
}

const HERE: &str = "192.0.2.1:5000";

#[test]
fn a_cookie_is_answered_and_known_again_by_every_server_with_the_secret() {
    let ((one, _), (two, clock)) = (responder(settings()), responder(settings()));
    let m = with_option(query(SHOP, RecordType::A), 10, &[1; 8]);
    let first = ask(&one, &m.to_vec().unwrap(), HERE, Transport::Udp).unwrap();
    let cookie = option(&first, EdnsCode::Cookie).unwrap();
    assert_eq!((cookie.len(), &cookie[..8]), (24, &[1; 8][..]));
    assert!(!first.answers.is_empty());
    let again = with_option(query(SHOP, RecordType::A), 10, &cookie).to_vec().unwrap();
    let known = ask(&two, &again, HERE, Transport::Udp).unwrap();
    assert_eq!(option(&known, EdnsCode::Cookie).unwrap(), cookie, "a good cookie comes back as it is");
    let stranger = ask(&two, &again, "192.0.2.2:5000", Transport::Udp).unwrap();
    assert_ne!(option(&stranger, EdnsCode::Cookie).unwrap(), cookie, "another address");
    clock.advance(Duration::from_secs(1900));
    let renewed = option(&ask(&two, &again, HERE, Transport::Udp).unwrap(), EdnsCode::Cookie).unwrap();
    assert!(renewed != cookie && renewed[..8] == cookie[..8]);
    let plain = ask(&one, &edns(query(SHOP, RecordType::A), 1232, 0).to_vec().unwrap(), HERE, Transport::Udp).unwrap();
    assert_eq!(option(&plain, EdnsCode::Cookie), None, "nobody asked");
}

#[test]
fn cookies_of_every_wrong_length_are_malformed() {
    let (r, _) = responder(settings());
    for n in 0..=64 {
        let m = with_option(query(SHOP, RecordType::A), 10, &vec![3; n]);
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = ask(&r, &m.to_vec().unwrap(), HERE, transport).unwrap();
            let right = n == 8 || (16..=40).contains(&n);
            let code = if right { ResponseCode::NoError } else { ResponseCode::FormErr };
            assert_eq!(answer.metadata.response_code, code, "{n} octets");
            assert_eq!(answer.answers.is_empty(), !right);
        }
    }
}

#[test]
fn the_server_says_its_name_when_asked() {
    let (r, _) = responder(settings());
    let m = ask(&r, &with_option(query(SHOP, RecordType::A), 3, &[]).to_vec().unwrap(), HERE, Transport::Udp).unwrap();
    assert_eq!(option(&m, EdnsCode::NSID), Some(b"n2".to_vec()));
    let m = ask(&r, &edns(query(SHOP, RecordType::A), 1232, 0).to_vec().unwrap(), HERE, Transport::Udp).unwrap();
    assert_eq!(option(&m, EdnsCode::NSID), None);
}

fn limited() -> DnsSettings {
    let exempt = vec!["198.51.100.0/24".parse().unwrap()];
    DnsSettings { rates: Rates { answers: 50, negative: 10, errors: 5, slip: 2, exempt }, ..settings() }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    whole: usize,
    short: usize,
    nothing: usize,
}

fn flood(r: &Responder, bytes: &[u8], from: &str, transport: Transport, n: usize) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..n {
        match ask(r, bytes, from, transport) {
            None => seen.nothing += 1,
            Some(m) if m.metadata.truncation => {
                assert!(m.answers.is_empty() && m.additionals.is_empty() && m.authorities.is_empty());
                seen.short += 1;
            }
            Some(_) => seen.whole += 1,
        }
    }
    seen
}

#[test]
fn over_the_rate_half_is_dropped_and_half_is_short() {
    let (r, clock) = responder(limited());
    let cases = [
        (query(SHOP, RecordType::A), 100),
        (query(&format!("nothing.{SHOP}"), RecordType::A), 20),
        (query("example.com.", RecordType::A), 10),
    ];
    for (m, burst) in &cases {
        let seen = flood(&r, &m.to_vec().unwrap(), HERE, Transport::Udp, burst + 40);
        assert_eq!(seen, Seen { whole: *burst, short: 20, nothing: 20 }, "{m}");
        let over = |from, transport| flood(&r, &m.to_vec().unwrap(), from, transport, 40);
        assert_eq!(over(HERE, Transport::Tcp).whole, 40, "TCP proves the address");
        assert_eq!(over("198.51.100.9:5000", Transport::Udp).whole, 40, "exempt");
        assert_eq!(over("192.0.2.250:5000", Transport::Udp).whole, 0, "of the same network");
    }
    assert!(r.counts().limited > 0 && r.counts().slipped > 0);
    // Names do not matter: random ones are of one kind, and share its rate.
    clock.advance(Duration::from_secs(10));
    let mut whole = 0;
    for n in 0..60 {
        let m = query(&format!("x{n}.{SHOP}"), RecordType::A).to_vec().unwrap();
        whole += usize::from(ask(&r, &m, HERE, Transport::Udp).is_some_and(|m| !m.metadata.truncation));
    }
    assert_eq!(whole, 20);
    // What cannot even be read counts as an error.
    clock.advance(Duration::from_secs(10));
    let mut two = query(SHOP, RecordType::A);
    two.add_query(two.queries[0].clone());
    let bytes = two.to_vec().unwrap();
    let answered = (0..50).filter(|_| r.respond(&bytes, HERE.parse().unwrap(), Transport::Udp).is_some()).count();
    assert_eq!(answered, 10 + 20, "and slips as its twelve octets");
}

#[test]
fn a_cookie_gets_its_owner_through_a_flood() {
    let (r, _) = responder(limited());
    let m = with_option(query(SHOP, RecordType::A), 10, &[1; 8]);
    let cookie = option(&ask(&r, &m.to_vec().unwrap(), HERE, Transport::Udp).unwrap(), EdnsCode::Cookie).unwrap();
    flood(&r, &query(SHOP, RecordType::A).to_vec().unwrap(), HERE, Transport::Udp, 300);
    let known = with_option(query(SHOP, RecordType::A), 10, &cookie).to_vec().unwrap();
    assert_eq!(flood(&r, &known, HERE, Transport::Udp, 300).whole, 300);
    // Who has no good one yet is told to come back with it.
    let codes: Vec<u16> = (0..20)
        .filter_map(|_| ask(&r, &m.to_vec().unwrap(), HERE, Transport::Udp))
        .map(|m| {
            assert!(m.answers.is_empty() && option(&m, EdnsCode::Cookie).unwrap().len() == 24);
            m.metadata.response_code.into()
        })
        .collect();
    assert_eq!(codes, [23; 10], "BADCOOKIE, every second time");
}

/// A header with one question, then whatever follows.
fn raw(question: &[u8]) -> Vec<u8> {
    [&[0xab, 0xcd, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], question].concat()
}

#[test]
fn names_that_are_none_are_malformed() {
    let (r, _) = responder(settings());
    let end = [0, 0, 1, 0, 1];
    let long: Vec<u8> = [&[63][..], &[b'a'; 63]].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a label of 64", [&[64][..], &[b'a'; 64], &end].concat()),
        ("a label of 191", [&[191][..], &[b'a'; 191], &end].concat()),
        ("a name of 257", [&long[..], &long, &long, &long, &end].concat()),
        ("a pointer to itself", vec![0xc0, 12, 0, 1, 0, 1]),
        ("two pointers to each other", vec![0xc0, 14, 0xc0, 12, 0, 1, 0, 1]),
        ("a pointer forward", vec![0xc0, 40, 0, 1, 0, 1]),
        ("a label that ends too early", vec![5, b'a']),
        ("no type", vec![1, b'a', 0]),
        ("half a class", vec![1, b'a', 0, 0, 1, 0]),
    ];
    for (what, question) in cases {
        let m = ask(&r, &raw(&question), HERE, Transport::Udp).unwrap();
        assert_eq!(m.metadata.response_code, ResponseCode::FormErr, "{what}");
        assert_eq!(m.metadata.id, 0xabcd);
    }
    // The longest that is a name: 255 octets on the wire.
    let most: Vec<u8> = [&long[..], &long, &long, &[61], &[b'a'; 61], &end].concat();
    let m = ask(&r, &raw(&most), HERE, Transport::Udp).unwrap();
    assert_eq!(m.metadata.response_code, ResponseCode::Refused);
    // OPT twice, OPT among the answers, and more additional records than a query has.
    let good = query(SHOP, RecordType::A).to_vec().unwrap();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let mut once = [&good[..], &opt].concat();
    once[11] = 1;
    assert_eq!(ask(&r, &once, HERE, Transport::Udp).unwrap().metadata.response_code, ResponseCode::NoError);
    let mut twice = [&good[..], &opt, &opt].concat();
    twice[11] = 2;
    let mut among = [&good[..], &opt].concat();
    among[7] = 1;
    let mut many = [&good[..], &opt, &opt, &opt].concat();
    many[11] = 3;
    for bytes in [twice, among, many] {
        assert_eq!(ask(&r, &bytes, HERE, Transport::Udp).unwrap().metadata.response_code, ResponseCode::FormErr);
    }
    assert_eq!(r.counts().panics, 0);
}

async fn ended(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 512];
    loop {
        match timeout(PATIENCE, stream.read(&mut rest)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

fn framed(m: &Message) -> Vec<u8> {
    let bytes = m.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

#[tokio::test]
async fn queries_may_come_one_behind_the_other() {
    let serving = Serving::start(&World::shop(2, 2, (5000, 5000))).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let asked: Vec<Message> = (0..300).map(|_| query(SHOP, RecordType::A)).collect();
    let all: Vec<u8> = asked.iter().flat_map(framed).collect();
    // Cut in the middle of a length and of a query.
    for part in [&all[..1], &all[1..20], &all[20..]] {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
    }
    for m in &asked {
        let n = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
        let mut bytes = vec![0; n.into()];
        timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!((answer.metadata.id, answer.answers.len()), (m.metadata.id, 2), "in the order of the questions");
    }
    serving.stop().await;
}

#[tokio::test]
async fn clients_that_send_half_or_do_not_read_are_cut_off() {
    let limits = DnsLimits {
        tcp_idle: Duration::from_millis(300),
        tcp_transfer: Duration::from_millis(300),
        ..DnsLimits::default()
    };
    let serving = Serving::start_with(&World::shop(60, 60, (5000, 5000)), limits, settings()).await;
    let good = framed(&query(SHOP, RecordType::A));
    for part in [&[][..], &[0], &[1, 0], &[0xff, 0xff, 1, 2, 3], &good[..good.len() - 1]] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(part).await.unwrap();
        assert!(ended(&mut stream).await, "{} octets and then silence", part.len());
    }
    // A length that promises more than comes, and the end.
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(&good[..10]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(ended(&mut stream).await);
    // Asks for a hundred records again and again and reads none of them.
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let big = framed(&query(&format!("mix.{SHOP}"), RecordType::SRV));
    let greedy = async { while stream.write_all(&big).await.is_ok() {} };
    timeout(PATIENCE, greedy).await.expect("still fed");
    let mut fine = TcpStream::connect(serving.address).await.unwrap();
    assert!(!tcp_ask(&mut fine, &query(SHOP, RecordType::A)).await.answers.is_empty());
    serving.stop().await;
}

async fn from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn a_crowd_of_connections_leaves_room_for_who_asks() {
    let good = framed(&query(SHOP, RecordType::A));
    // Silent ones, and ones in the middle of a query, who may take seconds for the rest.
    for say in [&[][..], &good[..1], &good[..good.len() / 2]] {
        let limits = DnsLimits { tcp_connections: 16, tcp_per_address: 4, ..DnsLimits::default() };
        let serving = Serving::start_with(&World::shop(1, 0, (10_000, 0)), limits, settings()).await;
        let mut crowd = Vec::new();
        for n in 0..100_u8 {
            let mut stream = from(Ipv4Addr::new(127, 0, 9, n / 2 + 1), serving.address).await;
            stream.write_all(say).await.unwrap();
            crowd.push(stream);
        }
        let mut fine = from(Ipv4Addr::new(127, 0, 10, 1), serving.address).await;
        for _ in 0..3 {
            assert_eq!(tcp_ask(&mut fine, &query(SHOP, RecordType::A)).await.answers.len(), 1);
        }
        assert!(ended(&mut crowd[0]).await, "who has asked nothing for longest goes first");
        let counts = serving.responder.counts();
        assert!(counts.tcp_evicted >= 84 && counts.tcp_refused == 0, "{counts:?}");
        serving.stop().await;
    }
}

#[test]
fn without_secrets_cookies_are_ignored() {
    let (r, _) = responder(DnsSettings { cookies: Cookies::new(Vec::new()), ..settings() });
    let m = ask(&r, &with_option(query(SHOP, RecordType::A), 10, &[1; 3]).to_vec().unwrap(), HERE, Transport::Udp);
    let m = m.unwrap();
    assert_eq!((m.metadata.response_code, option(&m, EdnsCode::Cookie)), (ResponseCode::NoError, None));
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_flood_from_everywhere_leaves_memory_flat() {
    let (r, clock) = responder(limited());
    let policy = query(SHOP, RecordType::A).to_vec().unwrap();
    let any = query(SHOP, RecordType::ANY).to_vec().unwrap();
    let flood = |round: u32| {
        for n in 0..12_000_u32 {
            // As many networks as there are queries, as spoofed addresses have it.
            let ip = Ipv4Addr::from((round << 24) + (n << 8) + 1);
            r.respond(&policy, (ip, 4000).into(), Transport::Udp);
            if n.is_multiple_of(8) {
                let random = query(&format!("x{round}-{n}.{SHOP}"), RecordType::A).to_vec().unwrap();
                r.respond(&random, (ip, 4001).into(), Transport::Udp);
                r.respond(&any, (ip, 4002).into(), Transport::Udp);
            }
        }
    };
    flood(11);
    let before = resident();
    clock.advance(Duration::from_secs(3));
    flood(23);
    flood(57);
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more than after the first flood");
    // Who was there before is served.
    assert!(!ask(&r, &policy, "203.0.113.5:4000", Transport::Udp).unwrap().answers.is_empty());
}
