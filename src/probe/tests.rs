//! The probe against real DNS and HTTP sockets that behave well and badly.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::*;

/// How a test DNS server answers.
#[derive(Clone, Copy)]
enum Manner {
    Addresses(&'static [[u8; 4]], u32),
    Code(ResponseCode),
    Silent,
    /// Truncated over UDP, whole over TCP.
    OverTcp([u8; 4]),
    /// An address of the other family alone.
    Six,
}

fn reply(query: &[u8], manner: Manner, tcp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    assert!(query.edns.is_some(), "asks with EDNS");
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    let name = query.queries[0].name().clone();
    let four = query.queries[0].query_type() == RecordType::A;
    let a = |ip: [u8; 4], ttl| Record::from_rdata(name.clone(), ttl, RData::A(A(ip.into())));
    match manner {
        Manner::Addresses(ips, ttl) => ips.iter().filter(|_| four).for_each(|ip| {
            answer.add_answer(a(*ip, ttl));
        }),
        Manner::Code(code) => answer.metadata.response_code = code,
        Manner::Silent => return None,
        Manner::Six if four => {}
        Manner::Six => {
            let six = RData::AAAA(AAAA(std::net::Ipv6Addr::LOCALHOST));
            answer.add_answer(Record::from_rdata(name.clone(), 60, six));
        }
        Manner::OverTcp(_) if tcp && !four => {}
        Manner::OverTcp(ip) if tcp => {
            answer.add_answer(a(ip, 60));
        }
        Manner::OverTcp(_) => answer.metadata.truncation = true,
    }
    Some(answer.to_vec().unwrap())
}

/// A DNS server, and how often it was asked.
async fn dns(manner: Manner) -> (SocketAddr, Arc<AtomicUsize>) {
    // A port that is free over UDP may be in use over TCP: take another then.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (n, from) = udp.recv_from(&mut buffer).await.unwrap();
            // The question of the other family comes with each.
            let four = Message::from_vec(&buffer[..n]).unwrap().queries[0].query_type() == RecordType::A;
            count.fetch_add(usize::from(four), Ordering::SeqCst);
            if let Some(answer) = reply(&buffer[..n], manner, false) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let answer = reply(&query, manner, true).unwrap();
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, asked)
}

/// A service on several loopback addresses and one port: address 127.0.0.N answers as version N.0.0; every `bad`th of
/// it with 500.
async fn service(versions: &[u8], bad: u32) -> u16 {
    let (port, listeners) = loop {
        // A port that is free at the first address may be in use at another: take another then.
        let first = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![(1, first)];
        for n in versions.iter().filter(|n| **n != 1) {
            listeners.extend(TcpListener::bind((IpAddr::from([127, 0, 0, *n]), port)).await.map(|l| (*n, l)));
        }
        if versions.iter().all(|n| listeners.iter().any(|(at, _)| at == n)) {
            break (port, listeners);
        }
    };
    for (n, listener) in listeners {
        let served = Arc::new(AtomicU32::new(0));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let text = String::from_utf8(head).unwrap().to_lowercase();
                    assert!(text.contains("host: shop.production.svc.slipway.internal\r\n"), "{text}");
                    let nth = served.fetch_add(1, Ordering::SeqCst);
                    let status = if bad > 0 && nth.is_multiple_of(bad) { "500 Broken" } else { "200 OK" };
                    // Version 9 does not say what it is.
                    let version = if n == 9 { String::new() } else { format!("X-Version: {n}.0.0\r\n") };
                    let answer =
                        format!("HTTP/1.1 {status}\r\n{version}Content-Length: 2\r\nConnection: close\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
    }
    port
}

fn config(servers: Vec<SocketAddr>, port: u16) -> ProbeConfig {
    let mut config = ProbeConfig::new("shop.production.svc.slipway.internal", servers, port);
    config.rate = 200;
    config.clients = 20;
    config.duration = Some(Duration::from_millis(600));
    config.server_silence = Duration::from_millis(200);
    config
}

async fn run(config: ProbeConfig) -> (Summary, ProbeHandle) {
    let handle = Probe::start(config, Clock::real()).unwrap();
    tokio::time::timeout(Duration::from_secs(30), handle.finished()).await.expect("the probe ends");
    (handle.summary(), handle)
}

#[tokio::test]
async fn it_counts_versions_errors_and_lookups_once_a_ttl_and_client() {
    let (server, asked) = dns(Manner::Addresses(&[[127, 0, 0, 1], [127, 0, 0, 2]], 60)).await;
    let port = service(&[1, 2], 4).await;
    let (seen, handle) = run(config(vec![server], port)).await;
    // A busy machine may not come to all of them; none may come too many, and each client asks at least once.
    assert!((20..=121).contains(&seen.requests), "{} requests in 0.6 s at 200/s", seen.requests);
    assert_eq!(asked.load(Ordering::SeqCst), 20, "each client asked once, as the TTL is long");
    assert_eq!(seen.dns[&server.to_string()].answered, 20);
    assert_eq!(seen.versions.keys().collect::<Vec<_>>(), ["1.0.0", "2.0.0"]);
    assert_eq!(seen.versions.values().map(ProbeCounts::all).sum::<u64>(), seen.requests);
    let bad: u64 = seen.versions.values().map(|c| c.failed).sum();
    assert!(bad >= seen.requests / 5 && seen.failed() == bad && seen.unanswered() == 0, "{seen:?}");
    assert_eq!(seen.failed_but_by("2.0.0"), seen.versions["1.0.0"].failed);
    assert_eq!(handle.failures().len() as u64, bad);
    assert!(seen.latency.quantile_ms(0.5).unwrap() > 0.0);
    let by_second: u64 = handle.buckets(0).iter().map(|b| b.seen.requests).sum();
    assert_eq!(by_second, seen.requests, "every request is in one second");
    let start = handle.started_ms() / 1000 * 1000;
    assert_eq!(handle.between(start, start + 5000).requests, seen.requests);
    assert_eq!(handle.between(start + 60_000, u64::MAX).requests, 0);
}

#[tokio::test]
async fn a_ttl_of_zero_is_asked_each_time() {
    let (server, asked) = dns(Manner::Addresses(&[[127, 0, 0, 1]], 0)).await;
    let port = service(&[1], 0).await;
    let (seen, _) = run(config(vec![server], port)).await;
    assert_eq!(asked.load(Ordering::SeqCst) as u64, seen.requests);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_answer() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (servfail, _) = dns(Manner::Code(ResponseCode::ServFail)).await;
    let (refused, _) = dns(Manner::Code(ResponseCode::Refused)).await;
    let (silent, _) = dns(Manner::Silent).await;
    let (good, _) = dns(Manner::Addresses(&[[127, 0, 0, 1]], 0)).await;
    let port = service(&[1], 0).await;
    let (seen, handle) = run(config(vec![closed, servfail, refused, silent, good], port)).await;
    assert_eq!(seen.failed(), 0, "{:?}", handle.failures());
    let at = |server: SocketAddr| seen.dns[&server.to_string()].clone();
    assert!(
        at(closed).unreachable > 0 && at(servfail).servfail > 0 && at(refused).refused > 0 && at(silent).silent > 0
    );
    assert_eq!(at(good).answered, seen.requests);
    assert!(line(3, 1, &seen).contains(&format!("DNS {silent}")));
}

#[tokio::test]
async fn failed_lookups_and_connections_are_failed_requests() {
    let (nobody, _) = dns(Manner::Code(ResponseCode::NXDomain)).await;
    let (seen, handle) = run(config(vec![nobody], 1)).await;
    assert!(seen.requests > 0 && seen.lookup_failed == seen.requests);
    assert!(handle.failures()[0].detail.contains("does not exist"), "{:?}", handle.failures()[0]);

    let (server, _) = dns(Manner::Addresses(&[[127, 0, 0, 1]], 60)).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (seen, handle) = run(config(vec![server], closed)).await;
    assert!(seen.requests > 0 && seen.connect_failed == seen.requests, "{seen:?}");
    assert!(
        tables(&seen, &handle.failures()).contains("such as no connection at 127.0.0.1: "),
        "{}",
        tables(&seen, &handle.failures())
    );

    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = config(vec![server], mute.local_addr().unwrap().port());
    slow.request_timeout = Duration::from_millis(100);
    let (seen, _) = run(slow).await;
    assert!(seen.requests > 0 && seen.timed_out == seen.requests, "{seen:?}");
}

#[tokio::test]
async fn truncated_answers_are_asked_for_over_tcp_and_silent_services_told_apart_by_address() {
    let (server, _) = dns(Manner::OverTcp([127, 0, 0, 9])).await;
    let port = service(&[9], 0).await;
    let config = config(vec![server], port);
    config.versions.write().insert([127, 0, 0, 9].into(), "9.9.9".into());
    let (seen, _) = run(config).await;
    assert_eq!(seen.versions.keys().collect::<Vec<_>>(), ["9.9.9"]);
    assert_eq!(seen.failed(), 0);
}

#[tokio::test]
async fn a_service_with_addresses_of_version_6_alone_is_found() {
    let (server, _) = dns(Manner::Six).await;
    let (seen, handle) = run(config(vec![server], 1)).await;
    assert!(seen.requests > 0 && seen.lookup_failed == 0 && seen.connect_failed == seen.requests, "{seen:?}");
    assert!(
        tables(&seen, &handle.failures()).contains("no connection at ::1: "),
        "{}",
        tables(&seen, &handle.failures())
    );
}

#[tokio::test]
async fn it_stops_when_told_and_refuses_what_it_cannot_do() {
    let (server, _) = dns(Manner::Addresses(&[[127, 0, 0, 1]], 60)).await;
    let port = service(&[1], 0).await;
    let mut endless = config(vec![server], port);
    endless.duration = None;
    let handle = Probe::start(endless.clone(), Clock::real()).unwrap();
    let ten = async {
        while handle.summary().requests < 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ten).await.expect("requests go out");
    handle.stop().await;
    let seen = handle.summary();
    assert_eq!(seen.failed(), 0);
    for change in [
        |c: &mut ProbeConfig| c.rate = 0,
        |c: &mut ProbeConfig| c.clients = 0,
        |c: &mut ProbeConfig| c.servers.clear(),
        |c: &mut ProbeConfig| c.path = "x".into(),
        |c: &mut ProbeConfig| c.name = "a..b".into(),
    ] {
        let mut bad = endless.clone();
        change(&mut bad);
        assert!(matches!(Probe::start(bad, Clock::real()), Err(ProbeError::Config(_))));
    }
}

#[tokio::test]
async fn a_probe_that_is_kept_from_running_says_so() {
    let (server, _) = dns(Manner::Addresses(&[[127, 0, 0, 1]], 60)).await;
    let port = service(&[1], 0).await;
    let (seen, _) = run(config(vec![server], port)).await;
    assert!(starved(&Summary { late_ms: STARVED_MS - 1, ..seen }).is_none());

    let mut endless = config(vec![server], port);
    endless.duration = None;
    let handle = Probe::start(endless, Clock::real()).unwrap();
    let until = |requests: u64| {
        let handle = &handle;
        let enough = async move {
            while handle.summary().requests < requests {
                tokio::task::yield_now().await;
            }
        };
        async { tokio::time::timeout(Duration::from_secs(10), enough).await.expect("requests go out") }
    };
    until(2).await;
    // The test's runtime has this one thread: while it is held, the probe cannot run.
    std::thread::sleep(Duration::from_millis(STARVED_MS + 100));
    until(handle.summary().requests + 10).await;
    let seen = handle.summary();
    handle.stop().await;
    assert!(seen.late_ms >= STARVED_MS, "{} ms", seen.late_ms);
    for text in [tables(&seen, &[]), line(1, 1, &seen)] {
        assert!(text.contains("this machine kept the probe"), "{text}");
    }
}
