//! The one stream to a node: hello and proof, the desired state down, reports up. When a node does not answer, the
//! session goes on at the next one.
//!
//! Invariants: a desired state that is older than (incarnation, index) seen is ignored, whichever node sends it; a
//! report is the whole state, with a sequence that only rises; a refusal that no retry can mend ends the agent with its
//! reason. Not here: obeying (`reconcile`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{
    AgentError, addresses,
    addresses::Addresses,
    assignment::Offer,
    board::Board,
    cgroup::Keeping,
    fetch::Store,
    fleet::Fleet,
    layout::Layout,
    logs,
    machine::{Machine, Obeyed},
    nodes::Nodes,
};
use crate::{
    clock::Backoff,
    config::AgentConfig,
    model::{DeploymentId, Digest, InstanceId},
    wire::v1::{
        Challenge, Desired, FromAgent, Hello, Proof, TailLogs, ToAgent, from_agent, to_agent,
        workers_client::WorkersClient,
    },
};

/// Version of the protocol.
const PROTOCOL: u32 = 1;
/// Time for each step of the greeting.
const GREETING: Duration = Duration::from_secs(5);
/// Time between reports when nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// Time between looks at which addresses the machine has.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Changes within this time go into one report.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// After a start, longest wait until the instances that were found again have a health that is known: reporting
/// "unknown" would take healthy instances out of DNS.
const SETTLE: Duration = Duration::from_secs(3);
/// Longest text of how processes are kept together.
const MAX_KEEPING: usize = 200;
/// Between two tries to have a session.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(3));
/// Largest message a node may send.
const MAX_MESSAGE: usize = 16 << 20;

/// The session's side of the agent.
pub struct Session {
    pub machine: Machine,
    /// How it keeps the processes of an instance together.
    pub keeping: Keeping,
    /// What it offers.
    pub config: AgentConfig,
    /// Its pool, written out.
    pub pool: Vec<IpAddr>,
    /// Where things lie.
    pub layout: Layout,
    /// Whom to talk to.
    pub nodes: Nodes,
    /// What to report.
    pub board: Board,
    /// What is on disk.
    pub store: Store,
    /// Whom to tell.
    pub fleet: Fleet,
    /// The newest cluster, incarnation and index that orders were taken from.
    pub seen: Obeyed,
    /// Reports sent.
    pub seq: u64,
    /// Packages that the newest desired state names; `None` before the first one.
    pub wanted: Option<BTreeSet<Digest>>,
    /// What was last said of addresses that are missing.
    pub lacks: Option<String>,
}

/// Why a session ended.
enum SessionEnd {
    /// Another node, or the same one later, may do.
    Retry(String),
    /// What the greeting said no longer holds: the session greets again, at once.
    Again,
    /// Nothing will.
    Fatal(AgentError),
}

impl From<AgentError> for SessionEnd {
    fn from(e: AgentError) -> Self {
        Self::Fatal(e)
    }
}

fn retry(e: impl std::fmt::Display) -> SessionEnd {
    SessionEnd::Retry(e.to_string())
}

impl Session {
    /// Goes from node to node for ever; returns what cannot be mended.
    pub async fn serve(mut self) -> AgentError {
        let mut backoff = BACKOFF;
        let mut greeted = false;
        let mut told = String::new();
        loop {
            let end = match self.nodes.next().await {
                Ok((address, channel)) => {
                    let end = self.hold(&address, channel, &mut greeted).await;
                    end.map_or_else(|e| e, |never| match never {})
                }
                Err(e) => SessionEnd::Retry(e),
            };
            let why = match end {
                SessionEnd::Fatal(e) => return e,
                SessionEnd::Again => continue,
                SessionEnd::Retry(why) => why,
            };
            if std::mem::take(&mut greeted) {
                backoff.reset();
            }
            if why == told {
                tracing::debug!("no session: {why}");
            } else {
                tracing::warn!("no session: {why}; trying the next node");
            }
            told = why;
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn hold(
        &mut self,
        address: &str,
        channel: Channel,
        greeted: &mut bool,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let (send, receive) = mpsc::channel(8);
        let mut client = WorkersClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let addresses = self.look();
        self.say(&send, from_agent::Body::Hello(self.hello(&addresses))).await?;
        let open = tokio::time::timeout(GREETING, client.session(ReceiverStream::new(receive))).await;
        let open = open.map_err(|_| retry(format!("{address} does not answer")))?;
        let mut stream = open.map_err(|s| retry(format!("{address}: {}", s.message())))?.into_inner();
        let challenge = match next(&mut stream, address).await? {
            to_agent::Body::Challenge(challenge) => challenge,
            to_agent::Body::Refused(r) => return Err(self.refused(address, r.reason, r.permanent)),
            to_agent::Body::Welcome(_) | to_agent::Body::Desired(_) | to_agent::Body::TailLogs(_) => {
                return Err(retry(format!("{address} did not begin with a challenge")));
            }
        };
        check_cluster(&self.seen, self.layout.root(), &challenge)?;
        let signature = self.machine.prove(&challenge.nonce, &challenge.cluster_id);
        self.say(&send, from_agent::Body::Proof(Proof { signature })).await?;
        let welcome = match next(&mut stream, address).await? {
            to_agent::Body::Welcome(welcome) => welcome,
            to_agent::Body::Refused(r) => return Err(self.refused(address, r.reason, r.permanent)),
            to_agent::Body::Challenge(_) | to_agent::Body::Desired(_) | to_agent::Body::TailLogs(_) => {
                return Err(retry(format!("{address} did not answer the proof with a welcome")));
            }
        };
        self.nodes.learn(&welcome.nodes);
        if (welcome.report_epoch, welcome.report_seq) > (self.machine.epoch, self.seq) {
            let (known, mine) = (welcome.report_epoch, self.machine.epoch);
            tracing::warn!(
                known,
                mine,
                "the cluster has newer reports than this directory knows of: it was restored from an older image"
            );
            self.machine.go_above(&self.layout, known)?;
        }
        if self.seen.cluster != challenge.cluster_id {
            self.seen.enter(challenge.cluster_id);
            self.seen.save(&self.layout)?;
        }
        *greeted = true;
        tracing::info!(node = welcome.node_id, %address, name = %self.machine.name, "session open");
        self.converse(address, &addresses, channel, stream, send).await
    }

    async fn converse(
        &mut self,
        address: &str,
        addresses: &Addresses,
        channel: Channel,
        mut stream: Streaming<ToAgent>,
        send: mpsc::Sender<FromAgent>,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let mut changed = self.board.watch();
        changed.mark_changed();
        let settle = tokio::time::sleep(if self.seq == 0 { SETTLE } else { Duration::ZERO });
        let mut settle = std::pin::pin!(settle);
        let mut regular = tokio::time::interval(REPORT_EVERY);
        regular.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut may_report = self.seq > 0;
        loop {
            let due = tokio::select! {
                message = stream.message() => {
                    let message = message.map_err(|s| retry(format!("{address}: {}", s.message())))?;
                    let body = message.ok_or_else(|| retry(format!("{address} closed the session")))?.body;
                    match body {
                        Some(to_agent::Body::Desired(desired)) => self.obey(desired).await?,
                        Some(to_agent::Body::TailLogs(ask)) => self.tail(&channel, ask),
                        Some(to_agent::Body::Refused(r)) => return Err(self.refused(address, r.reason, r.permanent)),
                        Some(to_agent::Body::Challenge(_) | to_agent::Body::Welcome(_)) | None => {}
                    }
                    false
                }
                gone = self.fleet.failed() => return Err(SessionEnd::Fatal(gone)),
                () = &mut settle, if !may_report => { may_report = true; true }
                _ = changed.changed() => {
                    may_report = may_report || self.board.settled(&self.fleet.deployments());
                    tokio::time::sleep(DEBOUNCE).await;
                    true
                }
                _ = regular.tick() => {
                    self.collect();
                    true
                }
                _ = look.tick() => {
                    if self.look() != *addresses {
                        tracing::info!("the addresses of this machine changed; telling the cluster");
                        return Err(SessionEnd::Again);
                    }
                    false
                }
            };
            if due && may_report {
                changed.mark_unchanged();
                self.seq = self.seq.saturating_add(1);
                let report = self.board.report(self.machine.epoch, self.seq, &self.store.staged());
                self.say(&send, from_agent::Body::Report(report)).await?;
                regular.reset();
            }
        }
    }

    async fn say(&self, send: &mpsc::Sender<FromAgent>, body: from_agent::Body) -> Result<(), SessionEnd> {
        send.send(FromAgent { body: Some(body) }).await.map_err(|_| retry("the node closed the session"))
    }

    /// Which addresses the machine has now. A missing one is logged once.
    fn look(&mut self) -> Addresses {
        let found = addresses::look(&self.pool, self.config.host);
        let lacks = found.lacks(self.config.host);
        match (&lacks, &self.lacks) {
            (now, before) if now == before => {}
            (Some(what), _) => tracing::warn!("{what}; it is offered once it is there"),
            (None, _) => tracing::info!("all addresses of the configuration are on this machine now"),
        }
        self.lacks = lacks;
        found
    }

    fn hello(&self, addresses: &Addresses) -> Hello {
        let texts = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect();
        Hello {
            protocol: PROTOCOL,
            name: self.machine.name.to_string(),
            public_key: self.machine.public_key(),
            boot_id: self.machine.boot.clone(),
            epoch: self.machine.epoch,
            labels: self.config.labels.clone(),
            capacity: self.config.capacity,
            pool: texts(&addresses.pool),
            absent: texts(&addresses.absent),
            host: self.config.host.to_string(),
            build: env!("CARGO_PKG_VERSION").into(),
            seen_incarnation: self.seen.incarnation,
            seen_index: self.seen.index,
            keeping: self.keeping.to_string().chars().filter(char::is_ascii).take(MAX_KEEPING).collect(),
        }
    }

    fn refused(&self, address: &str, reason: String, permanent: bool) -> SessionEnd {
        if permanent {
            return SessionEnd::Fatal(AgentError::Refused {
                node: address.into(),
                name: self.machine.name.to_string(),
                reason,
            });
        }
        retry(format!("{address} refuses: {reason}"))
    }

    /// Passes a desired state on, unless it is older than one that was passed on before.
    async fn obey(&mut self, desired: Desired) -> Result<(), SessionEnd> {
        let (ours, theirs) = ((self.seen.incarnation, self.seen.index), (desired.incarnation, desired.index));
        if theirs < ours {
            tracing::debug!(?theirs, ?ours, "an older desired state; ignored");
            return Ok(());
        }
        let mut offers: BTreeMap<DeploymentId, Offer> = BTreeMap::new();
        for assignment in &desired.assignments {
            match Offer::try_from(assignment) {
                Ok(offer) => {
                    offers.insert(offer.deployment.clone(), offer);
                }
                // Not obeyed as a whole: what cannot be read must not look absent.
                Err(e) => {
                    return Err(retry(format!("assignment of {:?} cannot be read: {e}", assignment.deployment)));
                }
            }
        }
        let digests = |o: &Offer| {
            let held = o.assigned.hold.iter().map(|h| h.digest.clone());
            held.chain(o.assigned.entries.iter().map(|e| e.pair.digest.clone())).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<Digest> = offers.values().flat_map(digests).collect();
        self.fleet.obey(offers).await?;
        if theirs > ours {
            (self.seen.incarnation, self.seen.index) = theirs;
            // An agent whose disk is full goes on: what it accepted stands in the journals, which refuse what is older.
            if let Err(e) = self.seen.save(&self.layout) {
                tracing::warn!("cannot be kept yet, and is with the next change: {e}");
            }
        }
        self.wanted = Some(wanted);
        Ok(())
    }

    /// Removes releases that nothing needs; only once a desired state has said what is needed.
    fn collect(&self) {
        let Some(wanted) = &self.wanted else { return };
        let Some(mut keep) = self.board.needs(&self.fleet.deployments()) else { return };
        keep.extend(wanted.iter().cloned());
        if !self.store.has_other_than(&keep) {
            return;
        }
        let (store, board, deployments) = (self.store.clone(), self.board.clone(), self.fleet.deployments());
        let wanted = wanted.clone();
        tokio::task::spawn_blocking(move || {
            // As it is at that moment, and not as it was above.
            let needed =
                |d: &Digest| wanted.contains(d) || board.needs(&deployments).is_none_or(|needs| needs.contains(d));
            if let Err(e) = store.collect(needed) {
                tracing::warn!("cannot remove a release that is no longer needed: {e}");
            }
            board.touch();
        });
    }

    fn tail(&self, channel: &Channel, ask: TailLogs) {
        let id = ask.instance.parse::<InstanceId>().ok();
        let dir = id.and_then(|id| {
            let dirs = self.fleet.deployments().into_iter().map(|d| self.layout.deployment(&d).instance(id));
            dirs.into_iter().find(|d| d.path().is_dir())
        });
        tokio::spawn(logs::tail(channel.clone(), self.machine.name.to_string(), ask, dir));
    }
}

/// Whether a challenge is one, and of the cluster that this directory belongs to.
fn check_cluster(seen: &Obeyed, root: &Path, challenge: &Challenge) -> Result<(), SessionEnd> {
    if !(16..=1024).contains(&challenge.nonce.len()) {
        return Err(retry("the node's challenge is no nonce"));
    }
    if seen.cluster.is_empty() || seen.goes_on_with(&challenge.cluster_id, &challenge.lineage) {
        return Ok(());
    }
    if seen.former.contains(&challenge.cluster_id) {
        return Err(retry(format!(
            "a node of cluster {} still runs, which was restored as {}: stop it",
            challenge.cluster_id, seen.cluster
        )));
    }
    Err(SessionEnd::Fatal(AgentError::OtherCluster {
        path: root.into(),
        ours: seen.cluster.clone(),
        theirs: challenge.cluster_id.clone(),
    }))
}

/// The next message of the greeting, within its time.
async fn next(stream: &mut Streaming<ToAgent>, address: &str) -> Result<to_agent::Body, SessionEnd> {
    let message = tokio::time::timeout(GREETING, stream.message()).await;
    let message = message.map_err(|_| retry(format!("{address} does not answer")))?;
    let message = message.map_err(|s| retry(format!("{address}: {}", s.message())))?;
    message.and_then(|m| m.body).ok_or_else(|| retry(format!("{address} closed the session")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_from_the_own_cluster_and_from_one_restored_from_it_alone() {
        let (new, restored) =
            (Obeyed::default(), Obeyed { cluster: "c2".into(), former: vec!["c1".into()], ..Obeyed::default() });
        for (seen, nonce, cluster, lineage, says) in [
            (&new, 16, "c9", vec![], "taken"),
            (&restored, 1024, "c2", vec![], "taken"),
            (&restored, 32, "c3", vec!["c1", "c2"], "taken"),
            (&new, 15, "c9", vec![], "again later: the node's challenge is no nonce"),
            (&restored, 0, "c2", vec![], "again later: the node's challenge is no nonce"),
            (&restored, 1025, "c2", vec![], "again later: the node's challenge is no nonce"),
            (
                &restored,
                32,
                "c1",
                vec![],
                "again later: a node of cluster c1 still runs, which was restored as c2: stop it",
            ),
            (&restored, 32, "c3", vec![], "never: c2, c3"),
            (&restored, 32, "c3", vec!["c1"], "never: c2, c3"),
        ] {
            let lineage = lineage.into_iter().map(str::to_owned).collect();
            let challenge = Challenge { nonce: vec![7; nonce], cluster_id: cluster.into(), lineage };
            let said = match check_cluster(seen, Path::new("/data"), &challenge) {
                Ok(()) => "taken".to_owned(),
                Err(SessionEnd::Retry(why)) => format!("again later: {why}"),
                Err(SessionEnd::Fatal(AgentError::OtherCluster { ours, theirs, .. })) => {
                    format!("never: {ours}, {theirs}")
                }
                Err(SessionEnd::Fatal(e)) => panic!("{e}"),
                Err(SessionEnd::Again) => panic!("greets again at once"),
            };
            assert_eq!(said, says, "{nonce} bytes of {challenge:?}");
        }
    }
}
