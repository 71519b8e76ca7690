//! Golden bytes of the codec: what was written once stays readable for ever, and writing it again gives the same bytes.
//!
//! `SLIPWAY_GOLDEN=write cargo test --test pure codec` writes the files anew: only for a new format, never to make a
//! red test green.

mod arms;
mod commands;
mod fuzz;
mod rows;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use rows::{check, evidence, instance, spec, worker};

use slipway::model::{ClusterId, DeploymentId, Digest, Millis, Named, Pair, Period, Principal, RequestId, RolloutId};
use slipway::state::{
    ArmedBy, Arming, Command, CookieSecrets, Event, EventBody, EventKey, Fence, Fences, KeySlots, LeaseMode, LogId,
    OnExpiry, Rejection, Secret, ServerEnd, Stamped, State, Switch, SwitchAsk, SwitchEnd, SwitchTarget, TrafficBack,
    Unfenced, WaitLevel, apply,
    codec::{self, CodecError},
    command::{Abort, LevelProbe, NodeAnnounced, NodeDrained, RollbackBegan},
    digest,
};
use slipway::traffic::{Run, lease::Terms};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/codec").join(name)
}

/// Compares with the file, or writes it when asked to by name.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    if std::env::var("SLIPWAY_GOLDEN").is_ok_and(|v| v == "write") {
        fs::write(file(name), bytes).unwrap();
    }
    let kept = fs::read(file(name)).unwrap();
    assert!(kept == bytes, "{name}: the bytes written now differ from those of format {}", codec::FORMAT);
    kept
}

fn abort() -> Stamped {
    Stamped {
        at: Millis(12_345),
        wall: 1_700_000_000_000,
        term: 3,
        principal: Principal::local_operator(),
        request: Some(Fence { id: RequestId::new("q-1").unwrap(), not_after: Millis(72_345) }),
        body: Command::Abort(Abort { rollout: RolloutId(52), as_is: false }),
    }
}

/// The State after the prelude: every table that it fills.
fn state() -> State {
    let mut state = State::default();
    for (n, body) in (1u64..).zip(crate::walk::prelude()) {
        let c = Stamped { at: Millis(n * 10), wall: n, term: 1, principal: Principal::leader(), request: None, body };
        apply(&mut state, LogId { term: 1, index: n }, &c).unwrap();
    }
    let c = Stamped { term: 1, at: Millis(500), ..abort() };
    apply(&mut state, LogId { term: 1, index: 99 }, &Stamped { request: fence(), ..c }).unwrap_err();
    state
}

fn fence() -> Option<Fence> {
    Some(Fence { id: RequestId::new("q-1").unwrap(), not_after: Millis(10_000) })
}

#[test]
fn a_command_keeps_its_bytes() {
    let kept = golden("command.bin", &codec::encode_command(&abort()).unwrap());
    assert_eq!(codec::decode_command(&kept).unwrap(), abort());
}

#[test]
fn every_command_of_the_prelude_reads_back() {
    for body in crate::walk::prelude() {
        let c = Stamped { body: body.clone(), ..abort() };
        assert_eq!(codec::decode_command(&codec::encode_command(&c).unwrap()).unwrap(), c);
        assert_eq!(codec::decode_body(&codec::encode_body(&body).unwrap()).unwrap(), body);
    }
}

#[test]
fn what_nodes_say_to_each_other_of_a_command_keeps_its_bytes_and_is_never_taken_for_another() {
    let refusals = [
        Rejection::NoCluster,
        Rejection::missing(Named::Release, "shop 2.0.0", ["2.0.1"]),
        Rejection::Stale { seen: 3, now: 4 },
        Rejection::Exhausted { what: "requests".into(), limit: 9, fix: "wait".into() },
        Rejection::Guard("no room".into()),
    ];
    let bytes: Vec<u8> = refusals.iter().flat_map(|r| codec::encode_refusal(r).unwrap()).collect();
    golden("refusals.bin", &bytes);
    for r in refusals {
        assert_eq!(codec::decode_refusal(&codec::encode_refusal(&r).unwrap()).unwrap(), r);
    }
    let body = golden("body.bin", &codec::encode_body(&abort().body).unwrap());
    assert_eq!(codec::decode_body(&body).unwrap(), abort().body);
    assert!(matches!(codec::decode_command(&body), Err(CodecError::WrongKind { got: 3, want: 1 })));
    assert!(matches!(codec::decode_refusal(&body), Err(CodecError::WrongKind { got: 3, want: 4 })));
}

/// What a node of version 0.2.0 says of itself.
fn announced(node: u64) -> Command {
    Command::NodeAnnounced(NodeAnnounced {
        node,
        version: "0.2.0".into(),
        min: 1,
        max: codec::LEVEL.into(),
        client_addr: "127.0.0.9:2".into(),
        dns_addr: "127.0.0.9:3".into(),
    })
}

/// The same State once nodes have said what they are and one was drained.
fn with_drained_node() -> State {
    let mut state = state();
    let said = (1..=3).map(announced);
    for (index, body) in (101u64..).zip(said.chain([Command::NodeDrained(NodeDrained { node: 3, on: true })])) {
        let at = LogId { term: 1, index };
        apply(&mut state, at, &Stamped { request: None, term: 1, body, ..abort() }).unwrap();
    }
    state
}

/// An older program refuses by number what belongs to a level that it does not know.
#[test]
fn what_belongs_to_a_later_level_says_so_in_its_frame() {
    let probe = Stamped { body: Command::LevelProbe(LevelProbe {}), ..abort() };
    let level = |c: &Stamped| codec::highest_level(&codec::encode_command(c).unwrap()).unwrap();
    assert_eq!((level(&abort()), level(&probe)), (1, 2));
    let raised = State { level: 2, ..state() };
    let level = |state: &State| codec::highest_level(&codec::encode_snapshot(state).unwrap()).unwrap();
    assert_eq!((level(&state()), level(&raised)), (1, 2));
}

fn shop() -> DeploymentId {
    "production/shop".parse().unwrap()
}

fn pair(n: u32) -> Pair {
    let digest = Digest::new(&format!("{n:064x}")).unwrap();
    Pair { version: format!("{n}.0.0").parse().unwrap(), digest, spec: 1 }
}

fn end() -> SwitchEnd {
    SwitchEnd {
        at: Millis(900),
        switched: true,
        fenced_at: Some(Millis(890)),
        servers: vec![
            (1, "n1".into(), ServerEnd::Served(Millis(880))),
            (2, "n2".into(), ServerEnd::Expired),
            (3, "n3".into(), ServerEnd::Holds),
            (4, "n4".into(), ServerEnd::Unbound),
        ],
        clear_at: Some(Millis(1890)),
        note: "a note".into(),
    }
}

/// Every row of traffic with something in every field; what it means does not matter.
fn traffic() -> State {
    let mut state = with_drained_node();
    let arming = |owner| Arming { index: 70, since: Millis(700), owner, confirmed: [1, 3].into() };
    let switch = Switch {
        id: 71,
        revision: 4,
        targets: vec![SwitchTarget { deployment: shop(), from: pair(1), to: pair(2) }],
        wait: WaitLevel::Caches,
        unfenced: Unfenced::TakeBack,
        within: Period::seconds(7),
        asked_at: Millis(710),
        undoes: Some(60),
        ttl: Period::seconds(1),
        ready: Some(Millis(720)),
        moved: Some((72, Millis(730))),
        end: Some(end()),
    };
    state.fences = Arc::new(Fences {
        revision: 9,
        mode: LeaseMode::Always,
        terms: Terms { duration: Period::seconds(2), drift_ppm: 500, margin: Period(20) },
        floor: Some((Terms::default(), Some(Millis(5)))),
        always: Some(arming(ArmedBy::Cluster)),
        armed: [
            (shop(), arming(ArmedBy::Switch(71))),
            ("staging/shop".parse().unwrap(), arming(ArmedBy::Step(RolloutId(5), 3))),
        ]
        .into(),
        on_expiry: [
            (shop(), OnExpiry::Fail),
            ("staging/shop".parse().unwrap(), OnExpiry::Stale { max: Period::minutes(2) }),
        ]
        .into(),
        left: [(9, None), (10, Some(Millis(3)))].into(),
        switches: [(71, switch)].into(),
    });
    let parts = vec![
        (pair(1), vec![Run::up(0, 7000)]),
        (pair(2), vec![Run { start: 8000, len: 2000, down: true }, Run::up(7000, 1000)]),
    ];
    state.slots.insert(shop(), KeySlots::from_parts(parts).unwrap());
    let back = TrafficBack {
        rollout: RolloutId(5),
        deployment: shop(),
        left: pair(2).version,
        index: 80,
        at: Millis(800),
        ttl: Period::seconds(5),
        bound: [2].into(),
        stale: Period::minutes(1),
        end: Some(end()),
    };
    state.backs.insert(RolloutId(6), TrafficBack { rollout: RolloutId(6), end: None, ..back.clone() });
    state.backs.insert(RolloutId(5), back);
    state.cookies = Arc::new(CookieSecrets {
        index: 81,
        since: Millis(810),
        newest: Some(Secret::new([7; 16])),
        before: Some((Secret::new([9; 16]), Millis(4_000_000))),
        asked: true,
    });
    let bodies = [
        EventBody::SwitchChanged { switch: 71, deployment: shop(), what: "fenced".into() },
        EventBody::TrafficBack { rollout: RolloutId(5), deployment: shop(), what: "fenced".into() },
    ];
    for (ordinal, body) in (0..).zip(bodies) {
        let key = EventKey { index: 90, ordinal };
        state.events.insert(key, Event { key, at: Millis(900), wall: 1, body, by: Principal::leader() });
    }
    state
}

#[test]
fn a_digest_names_the_table_that_differs() {
    let (a, mut b) = (state(), state());
    let mut node = b.nodes.get(&2).unwrap().clone();
    node.served = 7;
    b.nodes.insert(2, node);
    let (a, b) = (digest(&a), digest(&b));
    let differ: Vec<&str> = a.tables.iter().zip(&b.tables).filter(|(x, y)| x != y).map(|(x, _)| x.0).collect();
    assert_eq!(differ, ["nodes"]);
    assert_ne!(a.all, b.all);
}

#[test]
fn what_is_newer_or_not_ours_is_refused_by_name() {
    let good = codec::encode_command(&abort()).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        codec::decode_command(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b'X'), CodecError::Magic);
    assert_eq!(with(4, 2), CodecError::WrongKind { got: 2, want: 1 });
    assert_eq!(with(5, 9), CodecError::Newer { format: 9, level: 1, reads: codec::READS });
    assert!(with(5, 9).to_string().contains('9'));
    assert_eq!(with(6, 7), CodecError::Newer { format: 1, level: 7, reads: codec::READS });
    assert_eq!(
        with(11, 0x7f),
        CodecError::TooLarge { len: 0x7f00_0000 + good.len() - codec::HEADER, cap: codec::MAX_COMMAND }
    );
    assert_eq!(with(good.len() - 1, !good[good.len() - 1]), CodecError::Checksum);
    assert!(matches!(codec::decode_command(&good[..good.len() - 1]), Err(CodecError::Short { .. })));
}

#[test]
fn a_snapshot_without_its_tail_or_head_is_refused() {
    let bytes = codec::encode_snapshot(&state()).unwrap();
    for cut in [0, 1, 15, 16, 17, bytes.len() / 2, bytes.len() - 1] {
        assert!(codec::decode_snapshot(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let head = codec::HEADER + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    assert!(matches!(codec::decode_snapshot(&bytes[head..]), Err(CodecError::Snapshot(_))));
    let twice = [bytes.as_slice(), bytes.as_slice()].concat();
    assert!(codec::decode_snapshot(&twice).is_err());
}

#[test]
fn a_command_over_a_mebibyte_is_refused_before_it_is_written() {
    let mut c = abort();
    c.body = Command::RollbackBegan(RollbackBegan {
        rollout: RolloutId(1),
        seen: 1,
        reason: slipway::state::Reason::Compile { detail: "x".repeat(codec::MAX_COMMAND) },
        evidence: None,
    });
    assert!(matches!(codec::encode_command(&c), Err(CodecError::TooLarge { .. })));
}
