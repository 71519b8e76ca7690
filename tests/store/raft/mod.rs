//! Consensus as a whole: three nodes over real sockets, real RocksDB, real snapshots.

mod cluster;
mod furnished;

use slipway::state::command::Tick;
use std::{sync::atomic::Ordering, time::Duration};

use cluster::{CLUSTER, Cluster, LIMIT, until};
use furnished::{furnish, init};
use slipway::{
    clock::Clock,
    model::{Millis, Principal},
    raft::{Consensus, ConsensusError, ProposeError, ReadError, Role},
    state::Command,
    storage::{DataDir, Identity, StorageError},
    wire::v1::{RaftMessage, ReadIndexRequest},
};

async fn tick(at: &Consensus) -> Result<slipway::raft::Applied, ProposeError> {
    at.propose(Principal::leader(), None, Command::Tick(Tick {})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader_and_the_leader_comes_back() {
    let mut c = Cluster::of_three().await;
    let first = c.leader().await;
    let before = tick(c.at(first)).await.unwrap();
    let old_term = c.nodes[&first].term();
    c.stop(first).await;
    let second = c.leader().await;
    assert_ne!(second, first);
    let after = c.write().await;
    let new_term = c.nodes[&second].term();
    assert!(after.index > before.index && new_term > old_term);
    c.start(first).await;
    c.at(first).wait_for_recovery(LIMIT).await.unwrap();
    let views = c.agree().await;
    assert_eq!(views.len(), 3);
    assert!(views.windows(2).all(|w| w[0] == w[1]), "all nodes hold the same state");
    // A restarted leader has to win again: nothing of its old term is resumed.
    assert!(!c.at(first).leader().borrow().is_me || c.nodes[&first].term() > new_term);
}

/// Whether all nodes hold what they held before, but for the blank entry of the new term.
async fn hold_the_same(c: &Cluster, before: &slipway::state::State) {
    for id in [1, 2, 3] {
        c.at(id).wait_for_recovery(LIMIT).await.unwrap();
    }
    for view in c.agree().await {
        let mut view = (*view).clone();
        assert!(view.applied.index > before.applied.index, "the new term's blank entry");
        view.applied = before.applied;
        assert_eq!(view, *before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_gives_the_same_state() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    furnish(c.at(leader)).await;
    for step in 0..40 {
        c.nodes[&leader].clock.advance(Duration::from_millis(step));
        tick(c.at(leader)).await.unwrap();
    }
    let full = c.agree().await[0].clone();
    let rows = [full.nodes.len(), full.workers.len(), full.deployments.len(), full.rollouts.len(), full.releases.len()];
    assert!(rows.iter().all(|n| *n == 1) && full.requests.iter().count() >= 6, "{rows:?}: there is something to lose");
    // From the log alone.
    c.kill_all().await;
    hold_the_same(&c, &full).await;
    // From a snapshot and what came after it.
    let leader = c.leader().await;
    c.at(leader).trigger_snapshot().await.unwrap();
    tick(c.at(leader)).await.unwrap();
    let before = c.agree().await[0].clone();
    c.kill_all().await;
    hold_the_same(&c, &before).await;
    // And when they had the time to end well.
    let before = c.agree().await[0].clone();
    for id in [1, 2, 3] {
        c.stop(id).await;
    }
    for id in [1, 2, 3] {
        c.start(id).await;
    }
    hold_the_same(&c, &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_behind_the_purge_point_catches_up_by_snapshot() {
    let mut c = Cluster::new();
    c.config.snapshot_after = 40;
    c.config.keep_behind_snapshot = 5;
    c.start(1).await;
    c.at(1).init_single(&c.addr(1)).await.unwrap();
    c.leader().await;
    for _ in 0..150 {
        tick(c.at(1)).await.unwrap();
    }
    until("the log is purged", || std::future::ready(c.at(1).metrics().purged.is_some_and(|p| p > 50))).await;
    let purged = c.nodes[&1].data.log().first().unwrap();
    assert!(purged > 50, "the entries are really gone: the first one held is {purged}");
    let early = c.at(1).add_learner(2, &c.addr(1)).await.unwrap_err();
    assert!(early.to_string().contains("node 2"), "{early}");
    assert_eq!(c.at(1).metrics().members.len(), 1, "nobody is there to be a member");
    c.start(2).await;
    c.at(1).add_learner(2, &c.addr(2)).await.unwrap();
    let index = c.at(1).view().applied.index;
    c.at(2).wait_applied(index, LIMIT).await.unwrap();
    let learner = c.at(2).metrics();
    assert_eq!(learner.role, Role::Learner);
    assert!(learner.snapshot.is_some_and(|at| at > 50), "{learner:?}");
    assert!(c.nodes[&2].data.log().first().unwrap_or(u64::MAX) > 50, "the learner never saw the first entries");
    let views = c.agree().await;
    assert_eq!(views[0], views[1]);
    // And it starts again from the snapshot it was sent.
    c.stop(2).await;
    c.start(2).await;
    c.at(2).wait_applied(index, LIMIT).await.unwrap();
    assert_eq!(c.at(2).view().now, views[0].now);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_that_is_moved_away_gives_way_to_the_one_before_and_the_log() {
    let mut c = Cluster::new();
    c.config = c.config.with_snapshot_every(40);
    c.start(1).await;
    c.at(1).init_single(&c.addr(1)).await.unwrap();
    c.leader().await;
    for _ in 0..150 {
        tick(c.at(1)).await.unwrap();
    }
    until("the log is purged", || std::future::ready(c.at(1).metrics().purged.is_some_and(|p| p > 40))).await;
    let before = c.agree().await[0].clone();
    c.stop(1).await;
    let (dir, config) = (c.path().join("1"), c.config.clone());
    let start = async || {
        let data = DataDir::open(&dir).unwrap();
        let identity = Identity { cluster: CLUSTER.into(), node: 1 };
        Consensus::start(config.clone(), &data, identity, Clock::manual(1)).await.map(drop).unwrap_err().to_string()
    };
    let newest = || {
        let files = std::fs::read_dir(dir.join("snapshots")).unwrap().map(|f| f.unwrap().path());
        files.filter(|f| f.extension().is_some_and(|e| e == "snapshot")).max().unwrap()
    };
    let file = newest();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let said = start().await;
    assert!(said.contains(file.to_str().unwrap()) && said.contains("move it away"), "{said}");
    std::fs::rename(&file, file.with_extension("damaged")).unwrap();
    assert_eq!(slipway::raft::open_stopped(&dir).unwrap().state.now, before.now);
    c.start(1).await;
    c.at(1).wait_for_recovery(LIMIT).await.unwrap();
    let mut after = (*c.agree().await[0]).clone();
    after.applied = before.applied;
    assert_eq!(after, *before);
    // Where the log was cut at the newest one, nothing else leads on from there.
    c.at(1).snapshot_and_purge().await.unwrap();
    until("the log is cut", || std::future::ready(c.at(1).metrics().purged == c.at(1).metrics().snapshot)).await;
    c.stop(1).await;
    std::fs::rename(newest(), dir.join("snapshots/moved")).unwrap();
    let said = start().await;
    assert!(said.contains("are in no snapshot and no longer in the log"), "{said}");
    let said = slipway::raft::open_stopped(&dir).map(drop).unwrap_err().to_string();
    assert!(said.contains("are in no snapshot and no longer in the log"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_asked_for_while_one_is_made_is_made_too() {
    let mut c = Cluster::new();
    c.start(1).await;
    c.at(1).init_single(&c.addr(1)).await.unwrap();
    c.leader().await;
    // Each after an entry of its own, all at once: while one is made, entries come that the next is asked for.
    for _ in 0..5 {
        let one = async || {
            let index = tick(c.at(1)).await.unwrap().index;
            (index, c.at(1).trigger_snapshot().await)
        };
        for (index, made) in futures_util::future::join_all((0..12).map(|_| one())).await {
            assert!(made.as_ref().is_ok_and(|made| *made >= index), "asked for at {index}: {made:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request() {
    let c = Cluster::of_three().await;
    let from = c.leader().await;
    let to = if from == 2 { 3 } else { 2 };
    let refused = c.at(to).transfer_leader(from).await.unwrap_err();
    assert!(matches!(refused, ConsensusError::NotLeader { .. }), "{refused}");
    assert!(c.at(from).transfer_leader(9).await.unwrap_err().to_string().contains("node 9 is not a voter"));
    assert!(c.at(from).can_lead(9).await.unwrap_err().to_string().contains("node 9 is not a voter"));
    c.at(from).can_lead(to).await.unwrap();
    c.at(from).transfer_leader(to).await.unwrap();
    until("the chosen one leads", || std::future::ready(c.at(to).leader().borrow().ready)).await;
    tick(c.at(to)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_asks_first_and_disturbs_nobody() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    let deaf = if leader == 3 { 2 } else { 3 };
    let term = c.nodes[&leader].term();
    let asked = |c: &Cluster| c.nodes.values().map(|n| n.pre_votes.load(Ordering::SeqCst)).sum::<u64>();
    let before = asked(&c);
    c.nodes.get_mut(&deaf).unwrap().close_inbound().await;
    // It can call out, so it asks: at least two whole rounds.
    until("pre-votes arrive", || std::future::ready(asked(&c) >= before + 4)).await;
    assert_eq!(c.nodes[&deaf].term(), term, "a refused pre-vote does not raise the term");
    assert_eq!(c.nodes[&leader].term(), term);
    tick(c.at(leader)).await.unwrap();
    c.nodes.get_mut(&deaf).unwrap().open_inbound().await;
    let index = tick(c.at(leader)).await.unwrap().index;
    c.at(deaf).wait_applied(index, LIMIT).await.unwrap();
    assert_eq!((c.leader().await, c.nodes[&leader].term()), (leader, term), "the leader was never replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_says_so_within_the_limit() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        c.stop(*id).await;
    }
    let refused = tokio::time::timeout(c.config.call_timeout * 2, tick(c.at(leader)))
        .await
        .expect("an answer in time")
        .unwrap_err();
    assert!(matches!(refused, ProposeError::Unknown { .. } | ProposeError::NoQuorum), "{refused}");
    let refused = c.at(leader).read_index().await.unwrap_err();
    assert!(matches!(refused, ReadError::NoQuorum | ReadError::NoLeader { .. }), "{refused}");
    for id in others {
        c.start(id).await;
    }
    c.write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_the_majority_is_late_waits_for_it_and_is_not_refused() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    let at = c.at(leader).clone();
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        // Nobody else wants to lead: it stays the same leader.
        c.at(*id).set_electable(false);
        c.nodes.get_mut(id).unwrap().close_inbound().await;
    }
    let lease = c.config.timing.election_max;
    let under_way = tokio::spawn({
        let at = at.clone();
        async move { tick(&at).await }
    });
    until("the lease has run out", || std::future::ready(at.metrics().quorum_age.is_some_and(|age| age > lease))).await;
    assert_eq!(at.has_quorum(), Some(true), "too slow a machine for this test");
    let late = futures_util::future::join_all((0..20).map(|_| tick(&at)));
    let back = async {
        for id in &others {
            c.nodes.get_mut(id).unwrap().open_inbound().await;
        }
    };
    let (late, ()) = tokio::join!(late, back);
    let refused: Vec<_> = late.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} of {}: {}", refused.len(), late.len(), refused[0]);
    under_way.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_read_through_the_leader_and_name_it() {
    let c = Cluster::of_three().await;
    let leader = c.leader().await;
    let follower = if leader == 2 { 3 } else { 2 };
    let index = tick(c.at(leader)).await.unwrap().index;
    let read = c.at(follower).read_index().await.unwrap();
    assert!(read >= index && c.at(follower).view().applied.index >= index);
    match tick(c.at(follower)).await.unwrap_err() {
        ProposeError::NotLeader { leader: Some(at) } => assert_eq!((at.id, at.addr), (leader, c.addr(leader))),
        other => panic!("{other}"),
    }
    // A node that is asked to confirm a read although it does not lead refuses.
    let header = c.at(leader).peer_header(follower);
    assert!(c.at(follower).handle_read_index(ReadIndexRequest { header: Some(header) }).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_a_command_and_hands_its_result_back() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    let follower = if leader == 2 { 3 } else { 2 };
    let submit = |at: &Consensus, body| {
        let (at, by) = (at.clone(), Principal::local_operator());
        async move { at.submit(by, None, body).await }
    };
    let done = submit(c.at(follower), Command::Tick(Tick {})).await.unwrap();
    assert!(c.at(follower).view().applied.index >= done.index, "its own view shows the effect");
    assert!(submit(c.at(leader), Command::Tick(Tick {})).await.unwrap().index > done.index);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != follower).collect();
    for id in others {
        c.stop(id).await;
    }
    // Nobody is left to take it; it says so, whatever it still believes of the old leader.
    let refused = submit(c.at(follower), Command::Tick(Tick {})).await.unwrap_err();
    assert!(!matches!(refused, ProposeError::Stopped { .. } | ProposeError::TooLarge { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_through_another_node_is_the_same_request() {
    let mut c = Cluster::of_three().await;
    let leader = c.leader().await;
    let followers: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    let id = slipway::model::RequestId::new("request-1").unwrap();
    let ask = async |at: u64, name: &str| {
        let request = slipway::state::Fence { id: id.clone(), not_after: Millis(60_000) };
        c.at(at).submit(Principal::local_operator(), Some(request), init(name)).await.unwrap().result
    };
    let first = ask(followers[0], "shop").await.unwrap();
    assert!(!first.repeated);
    for at in [followers[1], leader, followers[0]] {
        let again = ask(at, "shop").await.unwrap();
        assert_eq!((again.index, again.repeated), (first.index, true));
    }
    // A refusal travels as what it is.
    let refused = ask(followers[1], "other").await.unwrap_err();
    assert!(matches!(refused, slipway::state::Rejection::RequestReused { .. }), "{refused}");
    let views = c.agree().await;
    assert!(views.iter().all(|v| v.cluster.as_ref().is_some_and(|c| c.name == "shop")));
    assert!(views.windows(2).all(|w| w[0] == w[1]));
    // All of it, the table of requests included, comes back from a snapshot.
    let at = followers[0];
    c.at(at).trigger_snapshot().await.unwrap();
    c.stop(at).await;
    c.start(at).await;
    c.at(at).wait_for_recovery(LIMIT).await.unwrap();
    let again = c.agree().await;
    assert!(again.iter().all(|v| v == &again[0]) && again[0].requests == views[0].requests);
    // And outlives the leader that took the request.
    c.stop(leader).await;
    c.leader().await;
    for at in followers {
        let request = slipway::state::Fence { id: id.clone(), not_after: Millis(60_000) };
        let said = c.at(at).submit(Principal::local_operator(), Some(request), init("shop")).await.unwrap();
        let again = said.result.unwrap();
        assert_eq!((again.index, again.repeated), (first.index, true), "node {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_time_follows_the_leaders_monotonic_clock_and_never_jumps() {
    let mut c = Cluster::of_three().await;
    let first = c.leader().await;
    let start = tick(c.at(first)).await.unwrap().now;
    c.nodes[&first].clock.advance(Duration::from_millis(1_500));
    let later = tick(c.at(first)).await.unwrap().now;
    assert_eq!(later, Millis(start.0 + 1_500));
    // The next leader's clock shows something else entirely; its time goes on from what was committed.
    for node in c.nodes.values().filter(|n| n.id != first) {
        node.clock.advance(Duration::from_secs(86_400));
    }
    c.stop(first).await;
    let second = c.leader().await;
    let next = tick(c.at(second)).await.unwrap().now;
    assert_eq!(next, later, "no clock moved since the last entry");
    c.nodes[&second].clock.advance(Duration::from_millis(250));
    assert_eq!(tick(c.at(second)).await.unwrap().now, Millis(later.0 + 250));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let c = Cluster::of_three().await;
    let leader = c.leader().await;
    let gone = if leader == 3 { 2 } else { 3 };
    assert!(c.at(leader).promote(9).await.unwrap_err().to_string().contains("node 9 is no member"));
    c.at(leader).promote(gone).await.unwrap();
    c.at(leader).remove(gone).await.unwrap();
    c.at(leader).remove(gone).await.unwrap();
    let members = c.at(leader).metrics().members;
    assert_eq!(members.iter().filter(|m| m.voter).count(), 2, "{members:?}");
    assert!(members.iter().all(|m| m.id != gone));
    tick(c.at(leader)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_and_the_calls_of_another_cluster_are_refused() {
    let mut c = Cluster::new();
    c.start(1).await;
    c.at(1).init_single(&c.addr(1)).await.unwrap();
    c.leader().await;
    let again = c.at(1).init_single(&c.addr(1)).await.unwrap_err();
    assert!(matches!(again, ConsensusError::Refused { .. }), "{again}");
    assert!(c.at(1).remove(1).await.unwrap_err().to_string().contains("only voter"));

    let header = c.at(1).peer_header(1);
    for (cluster_id, to, want) in [("c-other", 1, "belongs to cluster c-test"), (CLUSTER, 2, "this is node 1")] {
        let header = Some(slipway::wire::v1::PeerHeader { cluster_id: cluster_id.into(), to, ..header.clone() });
        let said = c.at(1).handle_vote(RaftMessage { header, payload: vec![1] }).await.unwrap_err().to_string();
        assert!(said.contains(want), "{said}");
    }
    let said = c
        .at(1)
        .handle_append(RaftMessage { header: Some(header), payload: vec![1, 200] })
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("malformed"), "{said}");
    assert!(c.at(1).handle_append(RaftMessage::default()).await.is_err());

    let path = c.path().join("1");
    c.stop(1).await;
    let data = DataDir::open(&path).unwrap();
    for (cluster, node) in [("c-other", 1), (CLUSTER, 2)] {
        let identity = Identity { cluster: cluster.into(), node };
        let refused = Consensus::start(c.config.clone(), &data, identity, Clock::real()).await.err().unwrap();
        assert!(
            matches!(
                refused,
                ConsensusError::Storage(StorageError::OtherCluster { .. } | StorageError::OtherNode { .. })
            ),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_have_a_largest_size() {
    let mut c = Cluster::new();
    c.config.max_command = 8;
    c.start(1).await;
    c.at(1).init_single(&c.addr(1)).await.unwrap();
    c.leader().await;
    assert!(matches!(tick(c.at(1)).await.unwrap_err(), ProposeError::TooLarge { limit: 8, .. }));
}
