//! A cluster of one whose routes change through its log: real Raft, real syncs, the product's own law. Everything of it
//! runs on the client's core; what it publishes is what DNS serves on the other.
//!
//! Its State is made by hand, as the other servers' is, and comes in as a node's does that was restored from a backup.
//! Each service has a canary in its route step. A change is that step's own command, `RouteSet`, which moves the
//! candidate between 9 % and 10 %.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use slipway::{
    clock::Clock,
    dns::ViewStore,
    model::{BasisPoints, ClusterId, Millis, Principal, RolloutId, RolloutParams, Step, StepKind, StrategyName, WHOLE},
    raft::{BackupSource, Consensus, ConsensusConfig, restore_backup, write_backup},
    state::{
        Command, Meta, NewNode, Restoration, Role, Rollout, RolloutKind, RolloutPhase, RolloutStatus, RouteForm, State,
        StepRef, StepRow, StepStatus, command::RouteSet,
    },
    storage::{BlobStore, DataDir, Identity},
};
use tokio::time::MissedTickBehavior;

use super::{
    CLIENT_CORE,
    host::pin,
    world::{World, id, pair},
};

const CLUSTER: &str = "c2";
/// How often the wished rate is looked at while it is 0.
const IDLE: Duration = Duration::from_millis(10);

/// Runs the cluster of one on the client's core for ever. `rate`: changes a second; `made`: how many were committed.
pub fn run(world: World, dir: &Path, store: &Arc<ViewStore>, rate: &AtomicU64, made: &AtomicU64) {
    pin(CLIENT_CORE);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let services = world.services();
        let consensus = start(&with_rollouts(&world), dir).await;
        tokio::spawn(follow(consensus.clone(), Arc::clone(store)));
        change(&consensus, services, rate, made).await;
    });
}

/// The same State, with a live canary for each service.
fn with_rollouts(world: &World) -> State {
    let mut state = State::clone(&world.state);
    for n in 1..=world.services() {
        let rollout = RolloutId(u64::from(n));
        let mut row = state.deployments[&id(n)].clone();
        row.live = Some(rollout);
        state.deployments.insert(id(n), row);
        state.rollouts.insert(rollout, canary(n));
    }
    state
}

fn canary(n: u32) -> Rollout {
    let step = StepRow {
        step: Step { group: "10 %".into(), kind: StepKind::Route { weight: WHOLE } },
        status: StepStatus::Running,
        attempt: 1,
        step_id: None,
        started_at: Some(Millis(1000)),
        until: None,
        deadline: None,
        batch: None,
        hook: None,
        routed: None,
        evidence: None,
        ended_at: None,
    };
    Rollout {
        meta: Meta::default(),
        id: RolloutId(u64::from(n)),
        deployment: id(n),
        kind: RolloutKind::Forward,
        from: Some(pair("1.0.0")),
        to: pair("2.0.0"),
        strategy: StrategyName::CANARY,
        params: RolloutParams::default(),
        desired: u32::from(super::names::ENDPOINTS),
        order: Vec::new(),
        without: Vec::new(),
        steps: vec![step],
        forward_steps: Vec::new(),
        cursor: 0,
        phase: RolloutPhase::Forward,
        undo_compiled: false,
        status: RolloutStatus::Active,
        paused_at: None,
        switched: false,
        reason: None,
        started_at: Millis(1000),
        traffic_back_at: None,
        ended_at: None,
        undone_by: None,
        principal: "bench".into(),
        started_wall: 0,
        ended_wall: 0,
        form: RouteForm::default(),
        budget: None,
    }
}

/// A node's directory made of the State, and consensus on it.
async fn start(state: &State, dir: &Path) -> Consensus {
    let blobs = BlobStore::open(&dir.join("packages")).expect("room");
    let source = BackupSource { state, blobs: &blobs, without_packages: true, wall_ms: 0 };
    let backup = write_backup(&source, |_| Vec::new()).expect("a backup").out;
    let address = || "127.0.0.1:1".to_owned();
    let node = NewNode {
        name: "n1".into(),
        peer_addr: address(),
        client_addr: address(),
        dns_addr: address(),
        level: state.level.max(1),
    };
    let new = Restoration {
        id: ClusterId::new(CLUSTER).expect("an id"),
        node,
        incarnation: 0,
        succeeds: Vec::new(),
        held: BTreeSet::new(),
    };
    let home = dir.join("node");
    restore_backup(backup.as_slice(), &home, &new).unwrap_or_else(|e| panic!("the State is not one: {e}"));
    let data = DataDir::open(&home).expect("its directory");
    let identity = Identity { cluster: CLUSTER.into(), node: 1 };
    let consensus = Consensus::start(ConsensusConfig::default(), &data, identity, Clock::real()).await;
    let consensus = consensus.expect("consensus");
    let mut leadership = consensus.leader();
    leadership.wait_for(|l| l.ready).await.expect("it leads alone");
    consensus
}

/// As a node does it (`node::follow`).
async fn follow(consensus: Consensus, store: Arc<ViewStore>) {
    let mut views = consensus.view_changes();
    loop {
        views.borrow_and_update();
        store.publish(&consensus.view());
        store.set_ready(true);
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// Commits changes at the rate that is set, service after service.
async fn change(consensus: &Consensus, services: u32, rate: &AtomicU64, made: &AtomicU64) {
    let mut turn = 0;
    loop {
        let per_s = rate.load(Ordering::Relaxed);
        if per_s == 0 {
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let mut beat = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_s).expect("a rate"));
        // What a commit that took long has held up is made up for.
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while rate.load(Ordering::Relaxed) == per_s {
            beat.tick().await;
            turn = turn % services + 1;
            let command = {
                let state = consensus.view();
                let rollout = RolloutId(u64::from(turn));
                let had = state.deployments[&id(turn)].arms.weight(Role::Candidate);
                let candidate = if had == BasisPoints(1000) { 900 } else { 1000 };
                let shares = [(Role::Stable, WHOLE.0 - candidate), (Role::Candidate, candidate)];
                let weights = shares.into_iter().map(|(role, bp)| (role, BasisPoints(bp))).collect();
                Command::RouteSet(RouteSet {
                    at: StepRef { rollout, seen: state.rollouts[&rollout].meta.revision, step: 0 },
                    weights,
                })
            };
            let applied = consensus.propose(Principal::leader(), None, command).await.expect("it is committed");
            applied.result.unwrap_or_else(|why| panic!("a change was refused: {why}"));
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
}
