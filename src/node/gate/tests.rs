//! What the gate lets in, cuts and counts.

use super::*;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

/// No test may wait for ever.
const SOON: Duration = Duration::from_secs(20);

async fn gate(open: usize, silent: usize, first_ms: u64, idle_ms: u64, speaks: Speaks) -> Gate {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (first_byte, idle) = (Duration::from_millis(first_ms), Duration::from_millis(idle_ms));
    Gate::new(listener, "test", speaks, GateLimits { open, silent, first_byte, idle }).unwrap()
}

async fn speaking(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream
}

async fn let_in(gate: &mut Gate) -> Guarded {
    timeout(SOON, gate.next()).await.expect("let in").unwrap().unwrap()
}

/// Whether the other end has closed, orderly or not.
async fn ended(stream: &mut TcpStream) -> bool {
    let mut end = [0u8; 1];
    matches!(timeout(SOON, stream.read(&mut end)).await.expect("an end"), Ok(0) | Err(_))
}

#[tokio::test]
async fn one_too_many_is_told_the_limit_and_a_freed_slot_is_given_again() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let mut gate = gate(1, 8, 20_000, 60_000, speaks).await;
        let _first = speaking(gate.addr).await;
        let mut held = let_in(&mut gate).await;
        let mut read = [0u8; 5];
        held.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello", "looking for the first byte must not take it");
        let mut second = speaking(gate.addr).await;
        let mut said = Vec::new();
        timeout(SOON, second.read_to_end(&mut said)).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("too many connections: the limit of this listener is 1"), "{said}");
        let counts = gate.counts();
        let seen = |n: &AtomicU64| n.load(Ordering::Relaxed);
        assert_eq!((seen(&counts.open), seen(&counts.refused)), (1, 1));
        drop(held);
        assert_eq!(seen(&counts.open), 0);
        let _third = speaking(gate.addr).await;
        let_in(&mut gate).await;
    }
}

#[tokio::test]
async fn a_flood_of_silence_is_cut_oldest_first_and_who_speaks_gets_in() {
    let mut gate = gate(4, 2, 60_000, 60_000, Speaks::Http).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(gate.addr).await.unwrap());
    }
    let _good = speaking(gate.addr).await;
    let_in(&mut gate).await;
    assert!(ended(&mut idle[0]).await, "the oldest is cut");
}

#[tokio::test]
async fn many_who_come_at_once_and_speak_all_get_in() {
    let mut gate = gate(100, 4, 60_000, 60_000, Speaks::Http).await;
    let mut speakers = Vec::new();
    for _ in 0..100 {
        speakers.push(speaking(gate.addr).await);
    }
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(let_in(&mut gate).await);
    }
    assert_eq!(gate.counts().silent.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn silence_ends_after_a_time() {
    let gate = gate(4, 8, 50, 60_000, Speaks::Grpc).await;
    let mut idle = TcpStream::connect(gate.addr).await.unwrap();
    assert!(ended(&mut idle).await);
    assert_eq!(gate.counts().silent.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_gives_its_slot_back() {
    let mut gate = gate(1, 8, 20_000, 100, Speaks::Grpc).await;
    let _gone = speaking(gate.addr).await;
    let mut held = let_in(&mut gate).await;
    let mut all = Vec::new();
    let cut = timeout(SOON, held.read_to_end(&mut all)).await.unwrap().unwrap_err();
    assert_eq!((cut.kind(), all.as_slice()), (io::ErrorKind::TimedOut, b"hello".as_slice()));
    // Nor can one that never reads hold it for ever.
    let much = vec![0u8; 64 << 20];
    let cut = timeout(SOON, held.write_all(&much)).await.unwrap().unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn the_limit_of_open_files_bounds_the_slots() {
    assert_eq!(within(4096, 20_000), 4096);
    assert_eq!(within(4096, 1 << 20), 4096);
    let few = within(4096, 4096);
    assert!(few < 1024 && few * 9 / 8 * LISTENERS + OTHER_FILES <= 4096, "{few}");
    assert_eq!(within(4096, 512), LEAST_OPEN);
    assert_eq!(within(10, 512), 10);
}
