//! A digest probe now, and what the nodes said to it.
//!
//! Invariant: the answer is about one entry. Not here: the verdict (`state::replicas`), and the hashing (`node`).

use super::{Api, Caller, Reply};
use crate::{
    state::{Command, NodeRole, State, command::DigestProbe},
    wire::v1,
};
use tokio::time::timeout;

impl Api {
    /// Whether all nodes hold the same State; asks them now.
    pub async fn digest(&self, by: &Caller, _: v1::DigestRequest) -> Reply<v1::DigestReply> {
        let consensus = self.trusted()?;
        let index = self.node_change(Command::DigestProbe(DigestProbe {})).await?;
        let mut views = consensus.view_changes();
        let all = async {
            loop {
                views.borrow_and_update();
                let state = consensus.view();
                // A newer probe, such as the leader's own, tells as much; but only one that is answered.
                let answered = asked(&state).all(|(id, _)| state.replicas.reports.contains_key(id));
                if (state.replicas.probe >= index && answered) || views.changed().await.is_err() {
                    return state;
                }
            }
        };
        // Who is silent is said in the answer.
        Ok(told(&timeout(by.operation.wait, all).await.unwrap_or_else(|_| consensus.view())).into())
    }
}

fn asked(state: &State) -> impl Iterator<Item = (&u64, &str)> {
    state.nodes.iter().filter(|(_, n)| n.role != NodeRole::Removed).map(|(id, n)| (id, n.name.as_str()))
}

fn told(state: &State) -> v1::DigestReply {
    let replicas = &state.replicas;
    let nodes = asked(state)
        .map(|(id, name)| {
            let report = replicas.reports.get(id);
            let odd = replicas.diverged.get(id);
            v1::NodeDigest {
                node_id: *id,
                node: name.into(),
                reported: report.is_some(),
                digest: report.map(|r| format!("{:016x}", r.all)).unwrap_or_default(),
                differs: odd.map(|d| d.tables.clone()).unwrap_or_default(),
                differs_since: odd.map_or(0, |d| d.index),
            }
        })
        .collect();
    v1::DigestReply {
        index: replicas.probe,
        nodes,
        agreed: replicas.agreed == replicas.probe && replicas.probe > 0,
        split_tables: replicas.split.as_ref().map(|s| s.tables.clone()).unwrap_or_default(),
    }
}
