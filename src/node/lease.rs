//! Serving leases between real nodes: each node renews its own lease with the leader, and the leader keeps the lease
//! table.
//!
//! Invariants: the leader writes the lease table before it asks a majority for the index of a grant; a term that this
//! process has not led yet begins with a lease presumed of every server; a node uses a lease only once its served view
//! has reached the lease's index. Not here: the law of a lease (`traffic::lease`), what it lets a server answer
//! (`dns::lease`).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::Status;

use super::start::Parts;
use crate::{
    api::ApiError,
    dns::Requested,
    model::{NodeId, Period},
    raft::Consensus,
    state::{Fences, NodeRole},
    traffic::lease::{Book, Boot, Grant, Holder, Left, Terms},
    wire::v1,
};

/// How often a lease is renewed within its duration.
const TIMES: u64 = 5;
const RETRY: Duration = Duration::from_millis(100);
/// The least limit of one renewal: what a slow election profile allows a call.
const LIMIT: Duration = Duration::from_millis(500);

/// Most rows of requests (a deployment and a version each) that go with a lease.
const MAX_ROWS: usize = 10_000;

/// What the leader has granted.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Book>);

impl Leases {
    /// Records a lease that is about to be granted under these agreed terms.
    fn record(&self, term: u64, node: NodeId, now: Boot, fences: &Fences) -> bool {
        let mut book = self.0.lock();
        let present = book.enter(term, now, fences.waited().bound());
        if present {
            // This lease is as long as the present terms say. An earlier, longer lease may still be held; it is in the
            // table with its own end.
            let granted = Terms { duration: fences.terms.duration, ..fences.waited() };
            book.record(node, now, granted.bound());
        }
        present
    }

    /// Grants a lease under these agreed terms: it is recorded, and only then a majority is asked for its index.
    async fn grant(
        &self,
        term: u64,
        node: NodeId,
        now: Boot,
        fences: &Fences,
        index: impl Future<Output = Result<u64, ApiError>>,
    ) -> Result<u64, ApiError> {
        if !self.record(term, node, now, fences) {
            return Err(ApiError::precondition(format!("term {term} is over")));
        }
        index.await
    }

    /// Once the agreed State knows that no lease under earlier terms can be left, nothing is waited for longer than the
    /// present ones say, whatever was presumed before.
    fn left(&self, term: u64, now: Boot, fences: &Fences) -> Option<Left> {
        let bound = fences.waited().bound();
        let mut book = self.0.lock();
        book.enter(term, now, bound).then(|| book.left(now).at_most(bound))
    }
}

/// How long servers may still hold leases, as the leader of `term` knows.
pub(super) fn left(parts: &Parts, consensus: &Consensus, term: u64) -> Option<Left> {
    parts.leases.left(term, parts.clock.boot(), &consensus.view().fences)
}

/// Grants a lease to a node that asks for one.
pub(super) async fn grant(
    parts: &Parts,
    consensus: &Consensus,
    from: NodeId,
    ask: &v1::RenewRequest,
) -> Result<v1::RenewReply, ApiError> {
    let leadership = consensus.leader().borrow().clone();
    if !leadership.ready {
        return Err(ApiError::precondition("this node does not lead"));
    }
    let state = consensus.view();
    let member = state.nodes.get(&from).is_some_and(|n| n.role != NodeRole::Removed);
    if !member {
        return Err(ApiError::precondition(format!("there are no leases for node {from}")));
    }
    let terms = state.fences.terms;
    let limit = limit(Duration::from_millis(terms.duration.0));
    let index = async { consensus.leader_index(limit).await.map_err(|e| ApiError::unavailable(e.to_string())) };
    let index = parts.leases.grant(leadership.term, from, parts.clock.boot(), &state.fences, index).await?;
    Ok(v1::RenewReply {
        nonce: ask.nonce,
        epoch: leadership.term,
        read_index: index,
        duration_ms: terms.duration.0,
        requests: requests(parts),
    })
}

/// What instances have counted of the running steps: every node shows it, and only the leader hears it.
fn requests(parts: &Parts) -> Vec<v1::VersionRequests> {
    let all = parts.collector.requests().into_iter();
    let rows = all.flat_map(|(d, versions)| versions.into_iter().map(move |(version, n)| (d.to_string(), version, n)));
    let row = |(deployment, version, requests)| v1::VersionRequests { deployment, version, requests };
    rows.map(row).take(MAX_ROWS).collect()
}

/// Takes in the counts of a renewal; a row that makes no sense is left out.
fn heard(parts: &Parts, rows: Vec<v1::VersionRequests>) {
    let mut all = Requested::new();
    for row in rows {
        if let Ok(deployment) = row.deployment.parse() {
            all.entry(deployment).or_default().insert(row.version, row.requests);
        }
    }
    parts.dns.set_requests(all, parts.clock.mono());
}

fn limit(duration: Duration) -> Duration {
    (duration / u32::try_from(TIMES).unwrap_or(1)).max(LIMIT)
}

/// Keeps this node's own lease for as long as there is a leader to renew it with.
pub(super) async fn follow(parts: Arc<Parts>, consensus: Consensus) {
    let mut leadership = consensus.leader();
    let mut holder = Holder::default();
    let incarnation: u64 = rand::random();
    loop {
        leadership.borrow_and_update();
        let state = consensus.view();
        let duration = Duration::from_millis(state.fences.terms.duration.0);
        let every = duration / u32::try_from(TIMES).unwrap_or(1);
        let wait = match renew(&parts, &consensus, &mut holder, incarnation, limit(duration)).await {
            Ok(()) => every,
            Err(status) => {
                tracing::debug!(%status, "lease not renewed");
                RETRY.min(every)
            }
        };
        tokio::select! {
            seen = leadership.changed() => if seen.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(
    parts: &Parts,
    consensus: &Consensus,
    holder: &mut Holder,
    incarnation: u64,
    limit: Duration,
) -> Result<(), Status> {
    let leader = consensus.leader().borrow().leader.as_ref().map(|l| l.id);
    let leader = leader.ok_or_else(|| Status::unavailable("nobody leads"))?;
    let mut served = parts.dns.served_index();
    let nonce: u64 = rand::random();
    let ask =
        v1::RenewRequest { header: Some(consensus.peer_header(leader)), incarnation, nonce, applied: *served.borrow() };
    // The lease counts from here, before anything is sent.
    holder.ask(nonce, parts.clock.boot());
    let late = |_| Status::deadline_exceeded("no answer in time");
    let reply = if leader == consensus.node_id() {
        timeout(limit, grant(parts, consensus, leader, &ask)).await.map_err(late)??
    } else {
        let mut client = consensus.peer_client(leader).ok_or_else(|| Status::unavailable("no connection"))?;
        timeout(limit, client.renew(ask)).await.map_err(late)??.into_inner()
    };
    heard(parts, reply.requests);
    let grant =
        Grant { nonce: reply.nonce, epoch: reply.epoch, index: reply.read_index, duration: Period(reply.duration_ms) };
    let hold = holder.granted(grant).ok_or_else(|| Status::aborted("an answer to another question"))?;
    let reached = timeout(limit, served.wait_for(|at| *at >= hold.index)).await;
    match reached {
        Ok(Ok(_)) => {
            parts.dns.set_hold(hold);
            Ok(())
        }
        Ok(Err(_)) | Err(_) => Err(Status::unavailable("this node's view is behind its lease")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(seconds: u64) -> Terms {
        Terms { duration: Period::seconds(seconds), drift_ppm: 0, margin: Period(50) }
    }

    #[tokio::test]
    async fn the_lease_table_has_a_lease_before_a_majority_is_asked_for_its_index() {
        let (leases, fences) = (Leases::default(), Fences { terms: terms(60), ..Fences::default() });
        let index = async {
            let left = leases.left(2, 1000, &fences).unwrap();
            assert_eq!(left.held.get(&3), Some(&Period(60_050)), "asked for before it was recorded");
            Ok(7)
        };
        assert_eq!(leases.grant(2, 3, 1000, &fences, index).await.unwrap(), 7);
        let never = async { panic!("asked for a lease that is in no table") };
        let said = leases.grant(1, 3, 1000, &fences, never).await.unwrap_err();
        assert!(said.to_string().contains("term 1 is over"), "{said}");
    }

    #[test]
    fn after_a_shorter_lease_was_agreed_on_only_what_may_be_held_is_waited_for() {
        let leases = Leases::default();
        let long = Fences { terms: terms(60), ..Fences::default() };
        assert!(leases.record(1, 3, 0, &long));
        let lowered = Fences { terms: terms(1), floor: Some((terms(60), None)), ..Fences::default() };
        assert!(leases.record(1, 3, 1000, &lowered) && leases.record(1, 2, 1000, &lowered));
        let left = leases.left(1, 1000, &lowered).unwrap();
        assert_eq!(left.of(3), Period(59_050), "the lease from before goes on for its own time");
        assert_eq!(left.held[&2], Period(1050), "one that is granted now is as short as agreed");
        assert!(leases.record(1, 3, 60_000, &lowered));
        assert_eq!(leases.left(1, 60_050, &lowered).unwrap().held[&3], Period(1000));
        // A new leader presumes the longest, until the State says that none of those is left.
        assert_eq!(leases.left(2, 70_000, &lowered).unwrap().of(2), Period(60_050));
        let settled = Fences { terms: terms(1), ..Fences::default() };
        assert_eq!(leases.left(2, 70_000, &settled).unwrap().of(2), Period(1050));
        assert_eq!(leases.left(2, 130_050, &settled).unwrap().of(2), Period(0));
        assert!(leases.left(1, 70_000, &settled).is_none(), "a term that is over has nothing to say");
    }
}
