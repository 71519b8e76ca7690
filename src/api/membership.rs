//! Leave, drain and finalize: what the leader looks at before it proposes, and the way to the leader.
//!
//! Invariants: a voter begins to leave only when a majority of those that stay answers, and holds the last copy of no
//! package that can be reached unless that is wanted; what can be judged from State, `apply` judges. Repeating any of
//! them is harmless.
//!
//! Deliberately not here: the steps of leaving, which the leader's membership loop takes (`node`).

use std::time::Duration;

use super::{Answer, Api, ApiError, Caller, Reply};
use crate::{
    model::{Named, NodeId},
    raft::{Consensus, Member},
    state::{
        Command, NodeRole, NodeRow, State,
        command::{LevelRaised, NodeDrained, NodeRoleSet},
        last_copies, would_lose,
    },
    wire::v1,
};

/// Who stays must answer the leader after the question came, within this: what was heard before says nothing about now.
/// Below the time that clients allow for one try.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(200);

/// Where the leader listens for clients; `None` when this node leads.
pub(super) fn leader(consensus: &Consensus) -> Result<Option<String>, ApiError> {
    let leadership = consensus.leader().borrow().clone();
    if leadership.is_me {
        return Ok(None);
    }
    let id = leadership.leader.ok_or_else(ApiError::no_leader)?.id;
    consensus.view().nodes.get(&id).map(|row| Some(row.client_addr.clone())).ok_or_else(ApiError::no_leader)
}

/// The row of a node; the error names those there are.
fn find(state: &State, id: NodeId) -> Result<NodeRow, ApiError> {
    state.nodes.get(&id).cloned().ok_or_else(|| {
        let here = state.nodes.values().filter(|n| n.role != NodeRole::Removed);
        ApiError::missing(Named::Node, &id.to_string(), here.map(|n| format!("{} ({})", n.id, n.name)))
    })
}

fn left(row: &NodeRow) -> v1::LeaveReply {
    v1::LeaveReply { node_id: row.id, node: row.name.clone(), role: row.role.to_string() }
}

impl Api {
    /// Begins a node's removal, at the leader.
    pub async fn leave(&self, by: &Caller, request: v1::LeaveRequest) -> Reply<v1::LeaveReply> {
        let consensus = self.consensus()?;
        let id = if request.node == 0 { consensus.node_id() } else { request.node };
        if let Some(addr) = leader(consensus)? {
            let request = v1::LeaveRequest { node: id, ..request };
            return self.remote.leave(&addr, request).await.map(Answer::from);
        }
        let row = find(&consensus.view(), id)?;
        let to = match row.role {
            NodeRole::Leaving | NodeRole::Removed => return Ok(left(&row).into()),
            NodeRole::Joining => NodeRole::Removed,
            NodeRole::Learner | NodeRole::Voter => {
                check_leave(self, consensus, &row, request.lose_packages).await?;
                NodeRole::Leaving
            }
        };
        let lose_packages = request.lose_packages;
        self.change(by, None, Command::NodeRoleSet(NodeRoleSet { node: id, role: to, seen: row.role, lose_packages }))
            .await?;
        Ok(v1::LeaveReply { role: to.to_string(), ..left(&row) }.into())
    }

    /// Takes a node out for maintenance, or back.
    pub async fn drain(&self, by: &Caller, request: v1::DrainRequest) -> Reply<v1::DrainReply> {
        let consensus = self.consensus()?;
        let id = if request.node == 0 { consensus.node_id() } else { request.node };
        let row = find(&consensus.view(), id)?;
        self.change(by, None, Command::NodeDrained(NodeDrained { node: id, on: !request.undo })).await?;
        Ok(v1::DrainReply { node_id: id, node: row.name, drained: !request.undo }.into())
    }

    /// Raises the feature level by one.
    pub async fn finalize(&self, by: &Caller, request: v1::FinalizeRequest) -> Reply<v1::FinalizeReply> {
        let consensus = self.consensus()?;
        // The level that the caller saw is part of the command, so that a repeat is the same command, whoever takes it.
        let seen = if request.from == 0 { consensus.view().level } else { request.from };
        let newest = find(&consensus.view(), consensus.node_id())?.level;
        if seen >= newest {
            let text =
                format!("the cluster is at feature level {seen}, the newest that this version knows: nothing to do");
            return Err(ApiError::precondition(text));
        }
        let to = seen.saturating_add(1);
        let done = self.change(by, request.request.as_ref(), Command::LevelRaised(LevelRaised { to, seen })).await?;
        Ok(v1::FinalizeReply { from_level: seen, level: to, receipt: done.receipt() }.into())
    }
}

/// Looks at those that stay until nothing speaks against it, or for so long that the reason is the answer.
async fn check_leave(api: &Api, consensus: &Consensus, leaving: &NodeRow, lose_packages: bool) -> Result<(), ApiError> {
    let asked = api.clock.mono();
    loop {
        let waited = Duration::from_millis(api.clock.mono().since(asked));
        let members = consensus.metrics().members;
        let me = consensus.node_id();
        let here = |m: &Member| m.id == me || m.heard.is_some_and(|age| age < waited);
        let against = obstacle(&consensus.view(), leaving, &members, here, lose_packages);
        match against {
            None => return Ok(()),
            Some(why) if waited >= LOOK_AGAIN => {
                return Err(ApiError::precondition(why));
            }
            Some(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Why a node may not leave now: the voters that would stay and answer are no majority of those that would stay, or a
/// package that can be reached now would have no copy any more that can.
fn obstacle(
    state: &State,
    leaving: &NodeRow,
    members: &[Member],
    here: impl Fn(&Member) -> bool,
    lose_packages: bool,
) -> Option<String> {
    let stay: Vec<&Member> = members.iter().filter(|m| m.voter && m.id != leaving.id).collect();
    let (reached, gone): (Vec<&Member>, Vec<&Member>) = stay.iter().copied().partition(|m| here(m));
    // The last voter is refused by `apply`, in its own words.
    if leaving.role == NodeRole::Voter && !stay.is_empty() && reached.len() <= stay.len() / 2 {
        let told = |all: &[&Member]| {
            let one = |id: NodeId| state.nodes.get(&id).map_or_else(|| id.to_string(), |n| n.name.clone());
            let names: Vec<String> = all.iter().map(|m| one(m.id)).collect();
            if names.is_empty() { "none".to_string() } else { names.join(", ") }
        };
        return Some(format!(
            "without {} the cluster would lose its quorum: of the {} voters that stay, {} are needed; reachable: {}; not \
             reachable: {}. Bring those back, or let them leave first",
            leaving.name,
            stay.len(),
            stay.len() / 2 + 1,
            told(&reached),
            told(&gone)
        ));
    }
    // What one takes along that does not answer cannot be fetched now in any case: there only the law counts, which
    // counts the silent too.
    let answers = members.iter().any(|m| m.id == leaving.id && here(m));
    let last = last_copies(state, leaving.id, |id| !answers || reached.iter().any(|m| m.id == id));
    (!lose_packages && !last.is_empty()).then(|| would_lose(leaving, &last))
}
