//! Who may speak for a worker: the first words of a session on a real node, each refused for every thing that can be
//! wrong in it.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use slipway::{
    model::MAX_POOL,
    wire::v1::{self, from_agent, to_agent, workers_client::WorkersClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::{LIMIT, TestCluster, TestNode};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn hello(name: &str, key: &SigningKey) -> v1::Hello {
    v1::Hello {
        protocol: 1,
        name: name.into(),
        public_key: hex(key.verifying_key().as_bytes()),
        epoch: 1,
        capacity: 4,
        pool: vec!["10.9.0.1".into()],
        host: "10.9.0.100".into(),
        build: "1.0.0".into(),
        keeping: "cgroup".into(),
        ..v1::Hello::default()
    }
}

/// What an honest worker signs.
fn words(challenge: &v1::Challenge, name: &str) -> Vec<u8> {
    [b"slipway-worker-v1", &*challenge.nonce, challenge.cluster_id.as_bytes(), name.as_bytes()].concat()
}

/// An agent's end of a session.
struct Session {
    say: mpsc::Sender<v1::FromAgent>,
    hear: Streaming<v1::ToAgent>,
}

impl Session {
    async fn begin(node: &TestNode, first: from_agent::Body) -> Self {
        let (say, said) = mpsc::channel(4);
        say.send(v1::FromAgent { body: Some(first) }).await.unwrap();
        let mut client = WorkersClient::new(node.channel().await.unwrap());
        let hear = client.session(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, hear }
    }

    async fn next(&mut self) -> Result<to_agent::Body, tonic::Status> {
        let message = tokio::time::timeout(LIMIT, self.hear.message()).await.expect("an answer in time")?;
        Ok(message.expect("the session goes on").body.unwrap())
    }

    async fn say(&self, body: from_agent::Body) {
        self.say.send(v1::FromAgent { body: Some(body) }).await.unwrap();
    }

    async fn challenge(&mut self) -> v1::Challenge {
        match self.next().await.unwrap() {
            to_agent::Body::Challenge(challenge) => challenge,
            other => panic!("no challenge: {other:?}"),
        }
    }

    /// The refusal, after which the session is over.
    async fn refused(mut self) -> v1::Refused {
        let refused = match self.next().await.unwrap() {
            to_agent::Body::Refused(refused) => refused,
            other => panic!("not refused: {other:?}"),
        };
        let after = tokio::time::timeout(LIMIT, self.hear.message()).await.expect("an end in time");
        assert!(matches!(after, Ok(None)), "{after:?}");
        refused
    }

    /// Answers the challenge with this, and is refused.
    async fn proves_in_vain(self, signature: Vec<u8>) -> v1::Refused {
        self.say(from_agent::Body::Proof(v1::Proof { signature })).await;
        self.refused().await
    }
}

/// A session that was challenged.
async fn challenged(node: &TestNode, hello: v1::Hello) -> (Session, v1::Challenge) {
    let mut session = Session::begin(node, from_agent::Body::Hello(hello)).await;
    let challenge = session.challenge().await;
    (session, challenge)
}

/// A session that was welcomed.
async fn welcomed(node: &TestNode, name: &str, key: &SigningKey) -> (Session, v1::Challenge, Vec<u8>) {
    let (mut session, challenge) = challenged(node, hello(name, key)).await;
    let signature = key.sign(&words(&challenge, name)).to_bytes().to_vec();
    session.say(from_agent::Body::Proof(v1::Proof { signature: signature.clone() })).await;
    let next = session.next().await.unwrap();
    assert!(matches!(next, to_agent::Body::Welcome(_)), "{next:?}");
    (session, challenge, signature)
}

async fn workers(node: &TestNode) -> Vec<String> {
    let list = node.catalog().await.list_workers(v1::ListRequest::default()).await.unwrap().into_inner();
    list.items.into_iter().map(|w| w.name).collect()
}

#[tokio::test]
async fn nobody_speaks_for_a_worker_without_its_key() {
    const NOT_ITS: &str = "the proof does not match the worker's key";
    let cluster = TestCluster::form(1).await;
    let node = &cluster.nodes[0];
    let (owner, thief) = (key(1), key(2));
    let (session, first, proof) = welcomed(node, "w1", &owner).await;
    drop(session);
    assert_eq!(workers(node).await, ["w1"]);

    // Each of these is challenged anew; what it answers, and what it is told.
    type Answer = Box<dyn Fn(&v1::Challenge) -> Vec<u8>>;
    let by = |key: &SigningKey, words: Vec<u8>| key.sign(&words).to_bytes().to_vec();
    let (o, t) = (owner.clone(), thief.clone());
    let answers: Vec<(&str, &str, Answer, &str)> = vec![
        ("a replay", "w1", Box::new(move |_| proof.clone()), NOT_ITS),
        ("another's key", "w1", Box::new(move |c| by(&t, words(c, "w1"))), NOT_ITS),
        (
            "another's name",
            "w1",
            {
                let key = o.clone();
                Box::new(move |c| by(&key, words(c, "w2")))
            },
            NOT_ITS,
        ),
        (
            "a new name, signed for w1",
            "w3",
            {
                let key = o.clone();
                Box::new(move |c| by(&key, words(c, "w1")))
            },
            NOT_ITS,
        ),
        (
            "another cluster",
            "w1",
            {
                let key = o.clone();
                Box::new(move |c| by(&key, words(&v1::Challenge { cluster_id: "c-other".into(), ..c.clone() }, "w1")))
            },
            NOT_ITS,
        ),
        (
            "without its purpose",
            "w1",
            {
                let key = o.clone();
                Box::new(move |c| by(&key, words(c, "w1").split_off(17)))
            },
            NOT_ITS,
        ),
        (
            "a flipped bit",
            "w1",
            {
                let key = o.clone();
                Box::new(move |c| {
                    let mut signature = by(&key, words(c, "w1"));
                    signature[3] ^= 1;
                    signature
                })
            },
            NOT_ITS,
        ),
        ("cut short", "w1", Box::new(move |c| by(&o, words(c, "w1")).split_off(1)), "the proof is not a signature"),
        ("nothing", "w1", Box::new(|_| Vec::new()), "the proof is not a signature"),
    ];
    for (what, name, answer, told) in answers {
        let (session, challenge) = challenged(node, hello(name, &owner)).await;
        assert_ne!(challenge.nonce, first.nonce, "never the same twice");
        let refused = session.proves_in_vain(answer(&challenge)).await;
        assert!(refused.reason == told && refused.permanent, "{what}: {refused:?}");
    }
    // A key of low order has a signature that fits every message.
    let weak = format!("01{}", "00".repeat(31));
    let (session, _) = challenged(node, v1::Hello { public_key: weak, ..hello("w4", &owner) }).await;
    let mut everything = vec![0; 64];
    everything[0] = 1;
    let refused = session.proves_in_vain(everything).await;
    assert!(refused.reason == NOT_ITS && refused.permanent, "{refused:?}");
    // With a key of one's own, proven, and a name that is somebody's.
    let (session, challenge) = challenged(node, hello("w1", &thief)).await;
    let refused = session.proves_in_vain(by(&thief, words(&challenge, "w1"))).await;
    assert!(refused.reason.contains("w1 is taken by another machine") && refused.permanent, "{refused:?}");
    // Not answered: it may come again.
    let (session, _) = challenged(node, hello("w1", &owner)).await;
    session.say(from_agent::Body::Report(v1::Report::default())).await;
    let refused = session.refused().await;
    assert!(refused.reason == "the challenge was not answered" && !refused.permanent, "{refused:?}");
    assert_eq!(workers(node).await, ["w1"], "nobody was registered on the way");
    // And its owner is welcome as before.
    welcomed(node, "w1", &owner).await;
}

#[tokio::test]
async fn a_hello_that_cannot_be_is_refused_by_what_is_wrong_in_it() {
    let cluster = TestCluster::form(1).await;
    let node = &cluster.nodes[0];
    let off_the_curve = (0..=255u8).map(|n| [n; 32]).find(|bytes| VerifyingKey::from_bytes(bytes).is_err()).unwrap();
    let text = |n: usize| "x".repeat(n);
    let addresses = |n: usize| (0..n).map(|i| format!("10.8.{}.{}", i / 250, i % 250 + 1)).collect::<Vec<_>>();
    let labels = |n: usize| (0..n).map(|i| (format!("l{i}"), String::new())).collect::<BTreeMap<_, _>>();
    let good = || hello("w1", &key(1));
    let cases = [
        (v1::Hello { protocol: 0, ..good() }, "the agent speaks protocol 0, this node 1: use the same version"),
        (v1::Hello { protocol: 2, ..good() }, "the agent speaks protocol 2, this node 1: use the same version"),
        (v1::Hello { name: String::new(), ..good() }, "name"),
        (v1::Hello { name: "w 1".into(), ..good() }, "\"w 1\""),
        (v1::Hello { public_key: String::new(), ..good() }, "not an ed25519 key"),
        (v1::Hello { public_key: hex(key(1).verifying_key().as_bytes())[..62].into(), ..good() }, "not an ed25519 key"),
        (v1::Hello { public_key: "g".repeat(64), ..good() }, "not an ed25519 key"),
        (v1::Hello { public_key: "é".repeat(32), ..good() }, "not an ed25519 key"),
        (v1::Hello { public_key: hex(&off_the_curve), ..good() }, "not an ed25519 key"),
        (v1::Hello { pool: vec!["10.8.0.300".into()], ..good() }, "at most 1024 IP addresses"),
        (v1::Hello { pool: addresses(MAX_POOL + 1), ..good() }, "at most 1024 IP addresses"),
        (v1::Hello { absent: vec!["w1.example".into()], ..good() }, "at most 1024 IP addresses"),
        (v1::Hello { absent: addresses(MAX_POOL + 2), ..good() }, "at most 1024 IP addresses"),
        (v1::Hello { pool: vec!["224.0.0.9".into()], ..good() }, "224.0.0.9 is a multicast address"),
        (v1::Hello { host: String::new(), ..good() }, "host \"\" is not an IP address"),
        (v1::Hello { host: text(500), ..good() }, &format!("host \"{}\" is not an IP address", text(80))),
        (v1::Hello { host: "0.0.0.0".into(), ..good() }, "0.0.0.0 stands for this network"),
        (v1::Hello { labels: labels(65), ..good() }, "at most 64 labels, of at most 256 bytes each"),
        (v1::Hello { labels: [(text(257), "v".into())].into(), ..good() }, "at most 256 bytes each"),
        (v1::Hello { labels: [("k".into(), text(257))].into(), ..good() }, "at most 256 bytes each"),
        (v1::Hello { build: text(257), ..good() }, "at most 256 bytes each"),
        (v1::Hello { keeping: text(257), ..good() }, "is longer than 256 bytes"),
    ];
    for (hello, told) in cases {
        let refused = Session::begin(node, from_agent::Body::Hello(hello)).await.refused().await;
        assert!(refused.reason.contains(told) && refused.permanent, "{told}: {refused:?}");
    }
    let proof = from_agent::Body::Proof(v1::Proof { signature: vec![0; 64] });
    let refused = Session::begin(node, proof).await.refused().await;
    assert!(refused.reason == "a session begins with Hello" && !refused.permanent, "{refused:?}");
    assert_eq!(workers(node).await, Vec::<String>::new());
    // The most of everything is taken.
    let most = v1::Hello { pool: addresses(MAX_POOL), labels: labels(64), build: text(256), ..good() };
    challenged(node, most).await;
    // A node of no cluster has nothing to prove anything to.
    let alone = TestCluster::idle(1).await;
    let refused = Session::begin(&alone.nodes[0], from_agent::Body::Hello(good())).await.refused().await;
    assert!(refused.reason == "this node belongs to no cluster yet" && !refused.permanent, "{refused:?}");
}

#[tokio::test]
async fn a_report_that_cannot_be_read_ends_its_session_with_the_reason() {
    let cluster = TestCluster::form(1).await;
    let node = &cluster.nodes[0];
    let odd = |id: &str, life: &str| v1::InstanceReport {
        id: id.into(),
        life: life.into(),
        health: "passing".into(),
        ..v1::InstanceReport::default()
    };
    for (instance, told) in [(odd("first", "running"), "first"), (odd("1-0", "asleep"), "asleep")] {
        let (mut session, ..) = welcomed(node, "w1", &key(1)).await;
        let report = v1::Report { epoch: 1, seq: 1, instances: vec![instance], ..v1::Report::default() };
        session.say(from_agent::Body::Report(report)).await;
        let ended = loop {
            match session.next().await {
                Ok(to_agent::Body::Desired(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), tonic::Code::InvalidArgument, "{ended}");
        assert!(ended.message().contains(told), "{ended}");
    }
}
