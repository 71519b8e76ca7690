//! `node`: list and replace; how changes of members are shown while they go on, and the wait until a node has left.
//! Every step may be repeated, so an interrupted verb is run again. Progress goes to standard error: standard output
//! holds the result alone.

use std::{collections::BTreeMap, time::Duration};

use super::cluster::node_id;
use crate::{
    cli::{CliError, Session, args::NodeVerb, error::DONE, render},
    client::{Client, Limits},
    console,
    wire::v1,
};

const POLL: Duration = Duration::from_millis(300);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
const LEAVE_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for one look at the members.
const LOOK: Duration = Duration::from_secs(1);

/// What `node replace` did.
#[derive(serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Replaced {
    /// The node that left.
    removed: v1::LeaveReply,
    /// The one in its place.
    joined: v1::JoinReply,
}

pub async fn run(s: &Session, verb: NodeVerb) -> Result<u8, CliError> {
    match verb {
        NodeVerb::List => {
            let reply = s.client.status().await?;
            s.out.show(&reply.nodes, |nodes| render::nodes(nodes, s.out.wide()))?;
        }
        NodeVerb::Show { name } => {
            let nodes = s.client.status().await?.nodes;
            let id = node_id(&nodes, &name)?;
            let node = nodes.into_iter().find(|n| n.node_id == id).unwrap_or_default();
            s.out.show(&node, render::node)?;
        }
        NodeVerb::Replace { dead, with, lose_packages, sure } => {
            let before = s.client.status().await?;
            let dead = node_id(&before.nodes, &dead)?;
            let seed = before.nodes.iter().find(|n| n.node_id == before.node_id).map(|n| n.client_addr.clone());
            let seed = seed.ok_or_else(|| CliError::Failed("the node asked belongs to no cluster".into()))?;
            if before.nodes.iter().any(|n| n.node_id == dead && n.client_addr == with && n.role != "removed") {
                return Err(CliError::Failed(format!(
                    "{with} is the address of the node to be replaced: start the new one elsewhere, or let the old one leave first"
                )));
            }
            s.sure(&sure, &format!("node {dead} is removed for ever once {with} has joined"))?;
            console::note(&format!("1/2 {with} joins"));
            let new = Client::new(&[with], Limits::default(), s.client.clock().clone())?;
            let joined = shown(&s.client, new.join(v1::JoinRequest { seed })).await?;
            console::note(&format!("2/2 node {dead} leaves"));
            let removed = shown(&s.client, leave(s, dead, lose_packages)).await?;
            s.out.show(&Replaced { removed, joined }, |r| {
                format!(
                    "{} (node {}) took the place of {} (node {})",
                    r.joined.node, r.joined.node_id, r.removed.node, r.removed.node_id
                )
            })?;
        }
    }
    Ok(DONE)
}

/// Runs `work`; meanwhile a line at each change of a role or of the leader, as `watch` sees it.
pub(super) async fn shown<T>(watch: &Client, work: impl Future<Output = T>) -> T {
    let mut known: Option<BTreeMap<u64, String>> = None;
    tokio::pin!(work);
    loop {
        // A look that fails is no news: another follows.
        if let Ok(Ok(status)) = tokio::time::timeout(LOOK, watch.status()).await {
            let role = |n: &v1::Node| if n.leader { "leader".into() } else { n.role.clone() };
            let now: BTreeMap<u64, String> = status.nodes.iter().map(|n| (n.node_id, role(n))).collect();
            for n in status.nodes.iter().filter(|_| known.is_some()) {
                let before = known.as_ref().and_then(|k| k.get(&n.node_id));
                if before != now.get(&n.node_id) {
                    let before = before.map_or("new", String::as_str);
                    console::note(&format!("    {} (node {}): {before} -> {}", n.name, n.node_id, role(n)));
                }
            }
            known = Some(now);
        }
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Asks for the removal and waits until it is over.
pub(super) async fn leave(s: &Session, node: u64, lose_packages: bool) -> Result<v1::LeaveReply, CliError> {
    let mut reply = s.client.leave(v1::LeaveRequest { node, lose_packages }).await?;
    let clock = s.client.clock();
    let began = clock.mono();
    while reply.role != "removed" {
        if Duration::from_millis(clock.mono().since(began)) > LEAVE_LIMIT {
            return Err(still_there(&reply));
        }
        tokio::time::sleep(POLL).await;
        // The node that left may still answer for a moment, from before its end: another is asked then.
        let Ok(status) = s.client.status().await else { continue };
        if let Some(row) = status.nodes.iter().find(|n| n.node_id == reply.node_id) {
            reply.role.clone_from(&row.role);
        }
    }
    Ok(reply)
}

fn still_there(reply: &v1::LeaveReply) -> CliError {
    CliError::TimedOut(format!(
        "{} is still {} after {LEAVE_LIMIT:?}: see `slipway cluster status`; the cluster goes on with it, and the same \
         command may be run again",
        reply.node, reply.role
    ))
}

/// Drains a node, or takes it back; a drained one that led has handed over when this returns.
pub(super) async fn drain(s: &Session, node: u64, undo: bool) -> Result<v1::DrainReply, CliError> {
    let reply = s.client.drain(v1::DrainRequest { node, undo }).await?;
    let clock = s.client.clock();
    let began = clock.mono();
    if !reply.drained {
        return Ok(reply);
    }
    loop {
        match s.client.status().await {
            Ok(status) if status.leader_id != 0 && status.leader_id != reply.node_id => return Ok(reply),
            Ok(_) | Err(_) if Duration::from_millis(clock.mono().since(began)) > DRAIN_LIMIT => {
                return Err(CliError::TimedOut(format!(
                    "{} is drained, but nobody else leads after {DRAIN_LIMIT:?}: see `slipway cluster status`",
                    reply.node
                )));
            }
            Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::TIMED_OUT;

    #[test]
    fn a_member_that_is_slow_to_leave_is_no_failure() {
        let late = still_there(&v1::LeaveReply { node: "n2".into(), role: "leaving".into(), ..Default::default() });
        assert_eq!(late.exit_code(), TIMED_OUT, "{late}");
    }
}
