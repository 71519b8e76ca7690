//! Bad input by the list: every operation and class that is none of ours, names at the limit, lengths over TCP that
//! lie, empty keys. Asked over the sockets, so that the fast path sees it too. More of the list: `citizen` (labels,
//! pointers, OPT twice, cookies), `more_names` (keys, slugs, tenants), `wire` (QDCOUNT).

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::fixture::{Client, SHOP, Serving, World, odd, query, tcp_ask};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The answer over UDP; over TCP it has the same code.
async fn both(client: &Client, serving: &Serving, bytes: &[u8]) -> Message {
    client.send_bytes(bytes).await;
    let udp = client.receive().await.1;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let n = timeout(PATIENCE, stream.read_u16()).await.expect("no answer over TCP").unwrap();
    let mut answer = vec![0; n.into()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("half an answer").unwrap();
    let tcp = Message::from_vec(&answer).unwrap();
    assert_eq!(udp.metadata.response_code, tcp.metadata.response_code, "{bytes:02x?}");
    assert_eq!([&bytes[..2]; 2], [&udp.metadata.id.to_be_bytes()[..], &tcp.metadata.id.to_be_bytes()[..]]);
    udp
}

#[tokio::test]
async fn operations_and_classes_that_are_none_of_ours() {
    let serving = Serving::start(&World::shop(1, 1, (5000, 5000))).await;
    let client = serving.client().await;
    let good = query(SHOP, RecordType::A).to_vec().unwrap();
    for op in 1..16_u8 {
        let mut bytes = good.clone();
        bytes[2] = op << 3 | 1;
        let m = both(&client, &serving, &bytes).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NotImp, 0), "operation {op}");
        assert_eq!(u8::from(m.metadata.op_code), op);
    }
    let at = good.len() - 2;
    for class in [0_u16, 2, 3, 4, 5, 253, 254, 255, 256, 0x8001, 0xffff] {
        let mut bytes = good.clone();
        bytes[at..].copy_from_slice(&class.to_be_bytes());
        let m = both(&client, &serving, &bytes).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::Refused, 0), "class {class}");
    }
    // Types that nobody knows are types: the name exists without them.
    for kind in [0_u16, 9, 100, 1000, 0xfeff, 0xffff] {
        let mut bytes = good.clone();
        bytes[at - 2..at].copy_from_slice(&kind.to_be_bytes());
        let m = both(&client, &serving, &bytes).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NoError, 0), "type {kind}");
    }
    assert!(!both(&client, &serving, &good).await.answers.is_empty());
    assert_eq!(serving.responder.counts().panics, 0);
    serving.stop().await;
}

#[tokio::test]
async fn names_at_the_limit_and_over_it() {
    let serving = Serving::start(&World::shop(1, 1, (5000, 5000))).await;
    let client = serving.client().await;
    // Below our zone: `prefix` fills up what is left of 255 octets, with labels of 63 at most.
    let zone = b"\x07slipway\x08internal\x00";
    let name = |octets: usize| {
        let (mut out, mut left) = (vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], octets - zone.len());
        while left > 0 {
            // No length of 1 may be left over: a label has at least one octet beside its length.
            let n = if left == 65 { 63 } else { left.min(64) };
            out.push(u8::try_from(n - 1).unwrap());
            out.extend(std::iter::repeat_n(b'x', n - 1));
            left -= n;
        }
        out.extend(zone);
        out.extend([0, 1, 0, 1]);
        out
    };
    for octets in [100, 254, 255] {
        let m = both(&client, &serving, &name(octets)).await;
        assert_eq!(m.metadata.response_code, ResponseCode::NXDomain, "{octets} octets");
    }
    for octets in [256, 257, 300, 400] {
        let m = both(&client, &serving, &name(octets)).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::FormErr, 0), "{octets} octets");
    }
    serving.stop().await;
}

#[tokio::test]
async fn lengths_that_lie_end_the_connection_and_nothing_else() {
    let serving = Serving::start(&World::shop(1, 1, (5000, 5000))).await;
    let m = query(SHOP, RecordType::A);
    let good = m.to_vec().unwrap();
    // Lengths that are too short for a query make scraps of it; what follows is read as lengths of its own.
    for length in [0, 1, 2, 11] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(&u16::to_be_bytes(length)).await.unwrap();
        stream.write_all(&good).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // It may be reset, as octets are left that nobody read.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("still open");
        assert!(rest.is_empty(), "length {length}: {rest:02x?}");
    }
    // Cut in the question, the rest never comes; and a whole query that is said to be shorter than it is.
    let short = u16::try_from(good.len() - 3).unwrap();
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(&short.to_be_bytes()).await.unwrap();
    stream.write_all(&good[..good.len() - 3]).await.unwrap();
    let n = timeout(PATIENCE, stream.read_u16()).await.expect("no answer").unwrap();
    let mut answer = vec![0; n.into()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().metadata.response_code, ResponseCode::FormErr);
    // The same connection goes on.
    assert!(!tcp_ask(&mut stream, &m).await.answers.is_empty());
    assert_eq!(serving.responder.counts().panics, 0);
    serving.stop().await;
}

#[tokio::test]
async fn keys_and_tenants_that_are_empty_do_not_exist_and_unknown_tenants_do() {
    let serving = Serving::start(&World::shop(1, 1, (5000, 5000))).await;
    let client = serving.client().await;
    for label in ["k-", "t-", "v-", "i-", "k", "t", "z-alice"] {
        let (_, m) = client.send(&odd(label.as_bytes(), RecordType::A)).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NXDomain, 0), "{label:?}");
    }
    let longest = "k-".to_string() + &"x".repeat(61);
    for label in ["t-nobody-has-this-one", "t-0", longest.as_str()] {
        let (_, m) = client.send(&odd(label.as_bytes(), RecordType::A)).await;
        assert_eq!((m.metadata.response_code, m.answers.len()), (ResponseCode::NoError, 1), "{label:?}");
    }
    serving.stop().await;
}
