//! `cluster`.

use super::node;
use crate::{
    cli::{
        CliError, Session,
        args::{ClusterVerb, DnsCookieVerb, UpgradeVerb},
        error::DONE,
        missing, render,
    },
    client::Client,
    console,
    model::Named,
    wire::v1,
};

pub async fn run(s: &Session, verb: ClusterVerb) -> Result<u8, CliError> {
    match verb {
        ClusterVerb::Init { name, zone } => {
            let request = v1::InitRequest { name: name.clone(), zone: zone.unwrap_or_default() };
            let reply = s.client.init(request).await?;
            s.out.show(&reply, |r| {
                let node = s.client.node();
                format!(
                    "cluster {name} ({}) made, {node} is node {}; next, for each other node: \
                     `slipway cluster join {node} --node OTHER`",
                    r.cluster_id, r.node_id
                )
            })?;
        }
        ClusterVerb::Join { seed } => {
            let here = s.client.status().await.map(|status| status.cluster_id).unwrap_or_default();
            let watch = Client::new(std::slice::from_ref(&seed), s.limits, s.client.clock().clone())?;
            console::note(&format!("{} joins the cluster of {seed}", s.client.node()));
            let reply = node::shown(&watch, s.client.join(v1::JoinRequest { seed })).await?;
            s.out.show(&reply, |r| match here == r.cluster_id {
                true => format!(
                    "{} is in this cluster already, as node {} ({}); nothing changed",
                    r.node, r.node_id, r.role
                ),
                false => format!("{} joined as node {} ({})", r.node, r.node_id, r.role),
            })?;
        }
        ClusterVerb::Snapshot { all } => return super::backup::snapshot(s, all).await,
        ClusterVerb::Backup { file, without_packages } => {
            return super::backup::backup(s, &file, without_packages).await;
        }
        // Done before a session is made.
        ClusterVerb::Restore { .. } | ClusterVerb::Check { .. } => {}
        ClusterVerb::Status => {
            let reply = s.client.status().await?;
            s.out.show(&reply, |r| render::cluster(r, s.out.wide()))?;
        }
        ClusterVerb::Digest => return super::digest::run(s).await,
        ClusterVerb::TransferLeader { to } => {
            let v1::StatusReply { nodes, term, .. } = s.client.status().await?;
            let to = match to {
                None => 0,
                Some(to) => node_id(&nodes, &to)?,
            };
            let whom = nodes.iter().find(|n| n.node_id == to).map_or("another voter", |n| n.name.as_str());
            let leader = nodes.iter().find(|n| n.leader).map_or("the leader", |n| n.name.as_str());
            let already = whom == leader;
            if !already {
                console::note(&format!("{leader} hands leadership to {whom}"));
            }
            let reply =
                node::shown(&s.client, s.client.transfer_leader(v1::TransferLeaderRequest { to, term })).await?;
            let name = nodes.iter().find(|n| n.node_id == reply.leader_id).map(|n| n.name.clone());
            let name = name.unwrap_or_else(|| format!("node {}", reply.leader_id));
            let already = if already { " already; nothing changed" } else { "" };
            s.out.show(&reply, |r| format!("{name} leads (term {}){already}", r.term))?;
        }
        ClusterVerb::Leave { member, lose_packages, sure } => {
            let node = node_id(&s.client.status().await?.nodes, &member)?;
            s.sure(&sure, &format!("{member} is removed for ever, its data directory cannot come back"))?;
            let reply = node::shown(&s.client, node::leave(s, node, lose_packages)).await?;
            s.out.show(&reply, |r| {
                format!("{} (node {}) was removed: its data directory cannot come back", r.node, r.node_id)
            })?;
        }
        ClusterVerb::Drain { member, undo } => {
            // A node that belongs to no cluster has no row, and is refused by the call itself.
            let before = s.client.status().await?;
            let node = member.as_deref().map_or(Ok(0), |text| node_id(&before.nodes, text))?;
            let asked = if node == 0 { before.node_id } else { node };
            let already = before.nodes.iter().any(|n| n.node_id == asked && n.drained != undo);
            let reply = node::shown(&s.client, node::drain(s, node, undo)).await?;
            s.out.show(&reply, |r| match (r.drained, already) {
                (true, true) => {
                    format!("{0} is drained already; `slipway cluster drain {0} --undo` takes it back", r.node)
                }
                (true, false) => {
                    format!(
                        "{0} is drained: it does not lead; `slipway cluster drain {0} --undo` takes it back",
                        r.node
                    )
                }
                (false, true) => format!("{} is not drained; nothing changed", r.node),
                (false, false) => format!("{} is back: it may lead again", r.node),
            })?;
        }
        ClusterVerb::DnsCookie(DnsCookieVerb::Rotate) => {
            let reply = s.client.rotate_dns_cookie(v1::RotateDnsCookieRequest::default()).await?;
            s.out.show(&reply, |_| {
                "the leader generates another secret; cookies of the previous one are good for an hour".into()
            })?;
        }
        ClusterVerb::Upgrade(UpgradeVerb::Status) => {
            let reply = s.client.status().await?;
            s.out.show(&render::Levels::of(&reply), render::levels)?;
        }
        ClusterVerb::Upgrade(UpgradeVerb::Finalize(sure)) => {
            let from = s.client.status().await?.level;
            s.sure(&sure, &format!("the feature level rises from {from}, older programs cannot come back"))?;
            console::note(&format!("raising the feature level from {from}"));
            let request = v1::FinalizeRequest { from, ..v1::FinalizeRequest::default() };
            let reply = s.client.finalize(request).await?;
            s.out.show(&reply, |r| format!("feature level raised from {} to {}", r.from_level, r.level))?;
        }
    }
    Ok(DONE)
}

/// A node by name or number.
pub(super) fn node_id(nodes: &[v1::Node], text: &str) -> Result<u64, CliError> {
    // A name may be used again once its node was removed: the one that is here is meant.
    let fits = |n: &&v1::Node| n.name == text || n.node_id.to_string() == text;
    let found = nodes.iter().filter(fits).min_by_key(|n| n.role == "removed");
    found
        .map(|n| n.node_id)
        .ok_or_else(|| missing(Named::Node, text, nodes.iter().filter(|n| n.role != "removed").map(|n| &n.name)))
}
