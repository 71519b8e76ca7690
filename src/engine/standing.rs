//! How the DNS servers stand to an entry that moved traffic: who serves it, whose lease is over, who may still answer
//! from before it, and until when that is worth waiting for.
//!
//! Invariants: a server counts by its own word, or, if it is known to be bound, by the end of its last possible lease;
//! the word of one whose State differs from the majority's is no evidence. Not here: what follows (`fence`,
//! `steps::switch`, `returned`), the law of one lease (`traffic::lease`).

use super::prelude::*;
use crate::traffic::lease::Standing;

/// What was looked at: the entry, when it moved the traffic, and how long whoever cannot be waited out is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub index: u64,
    pub at: Millis,
    pub patience: Period,
}

/// How all servers stand.
pub(super) struct Servers<'a> {
    state: &'a State,
    index: u64,
    /// Each, in the order of nodes; `Served` with the time of its word.
    pub each: Vec<(NodeId, ServerEnd)>,
    /// When waiting ends, and when the first of the leases ends that are waited for.
    until: Millis,
    look_again: Millis,
}

impl<'a> Servers<'a> {
    /// Looks at each of them. `stands` says how one stands whose word is of this index.
    pub fn look(
        state: &'a State,
        seen: &Observations,
        now: Millis,
        m: Move,
        stands: impl Fn(NodeId, u64) -> Standing,
    ) -> Self {
        let mut all = Self {
            state,
            index: m.index,
            each: Vec::new(),
            until: m.at.plus(m.patience),
            look_again: Millis(u64::MAX),
        };
        for node in fence_set(state) {
            let (at, heard) = served(state, seen, node);
            let how = match stands(node, at) {
                Standing::Served => ServerEnd::Served(heard.unwrap_or(now)),
                Standing::Expired => ServerEnd::Expired,
                Standing::Unbound => ServerEnd::Unbound,
                Standing::Holds(left) => {
                    // A service that answers stale goes on for longer, and of leases without a lease table nothing is
                    // known.
                    if left <= state.fences.waited().bound() {
                        all.look_again = all.look_again.min(now.plus(left));
                        all.until = all.until.max(state.fences.gives_up(m.at));
                    }
                    ServerEnd::Holds
                }
            };
            all.each.push((node, how));
        }
        all
    }

    /// Those that stand so.
    pub fn that(&self, how: ServerEnd) -> Vec<NodeId> {
        self.each.iter().filter(|(_, h)| *h == how).map(|(n, _)| *n).collect()
    }

    /// Those that may answer from before the entry: for the rest of a lease first, then those of which that is not
    /// known.
    pub fn behind(&self) -> Vec<NodeId> {
        [self.that(ServerEnd::Holds), self.that(ServerEnd::Unbound)].concat()
    }

    /// Whether it is worth waiting, what for, and when to look again.
    pub fn wait(&self, now: Millis) -> Option<(Wait, Millis)> {
        let behind = self.behind();
        let wait = !behind.is_empty() && now < self.until;
        wait.then(|| (Wait::Views { index: self.index, behind }, self.until.min(self.look_again)))
    }

    /// For the record of an end.
    pub fn record(&self) -> Vec<(NodeId, String, ServerEnd)> {
        self.each.iter().map(|(n, how)| (*n, name(self.state, *n), *how)).collect()
    }
}

/// How a server whose word is of index `at` stands to an entry that moved these deployments.
pub(super) fn of<'a>(
    state: &State,
    seen: &Observations,
    deployments: impl Iterator<Item = &'a DeploymentId> + Clone,
    index: u64,
    (node, at): (NodeId, u64),
) -> Standing {
    let is_bound = deployments.clone().all(|d| bound(state, d, node, at));
    // Stale answers go on after the lease, and when it ended nobody here remembers.
    let mode = |d: &DeploymentId| state.deployments.get(d).and_then(|d| d.route.as_ref()).map(|r| r.mode);
    let stale = deployments.filter_map(|d| Some(state.fences.policy(d, mode(d)?).stale())).max().unwrap_or_default();
    Standing::of(at >= index, is_bound, left(seen, node, stale))
}

/// How long a server may still answer from before an entry, if this leader knows of leases.
pub(super) fn left(seen: &Observations, node: NodeId, stale: Period) -> Option<Period> {
    seen.leases.as_ref().map(|l| Period(l.of(node).0.saturating_add(stale.0)))
}

/// What a server was heard to serve, and when it said so.
pub(super) fn served(state: &State, seen: &Observations, node: NodeId) -> (u64, Option<Millis>) {
    match seen.nodes.get(&node).filter(|_| !differs(state, node)) {
        Some(Seen::Known { at, value }) => (value.served_index, Some(*at)),
        Some(Seen::Unknown | Seen::Silent { .. }) | None => (0, None),
    }
}

/// Whether all of these have been silent for long, or answer nobody as their State is wrong.
pub(super) fn silent(state: &State, nodes: &[NodeId]) -> bool {
    nodes.iter().all(|n| differs(state, *n) || state.nodes.get(n).is_none_or(|row| row.silent_since.is_some()))
}

/// What a server is called.
pub(super) fn name(state: &State, node: NodeId) -> String {
    state.nodes.get(&node).map_or_else(|| format!("node {node}"), |n| n.name.clone())
}

/// What these are called, with commas between them.
pub(super) fn names(state: &State, nodes: &[NodeId]) -> String {
    nodes.iter().map(|n| name(state, *n)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Three servers that stand so at 10 s to an entry of 8 s, with 4 s of patience for whoever cannot be waited out.
    fn wait(stand: [Standing; 3], now: Millis) -> Option<(Wait, Millis)> {
        let mut state = State::default();
        Arc::make_mut(&mut state.fences).left = (1..=3).map(|n| (n, None)).collect();
        let m = Move { index: 40, at: Millis(8_000), patience: Period::seconds(4) };
        let servers = Servers::look(&state, &Observations::default(), now, m, |n, _| stand[n as usize - 1]);
        servers.wait(now)
    }

    #[test]
    fn nothing_is_waited_for_when_nobody_can_answer_from_before_the_entry() {
        let now = Millis(10_000);
        assert_eq!(wait([Standing::Served, Standing::Expired, Standing::Served], now), None);
        // Patience alone keeps nobody: it is for servers that are behind.
        assert_eq!(wait([Standing::Expired; 3], Millis(8_000)), None);
    }

    #[test]
    fn a_server_that_no_lease_binds_is_waited_for_with_patience_alone() {
        let stand = [Standing::Served, Standing::Unbound, Standing::Served];
        let behind = Wait::Views { index: 40, behind: vec![2] };
        assert_eq!(wait(stand, Millis(10_000)), Some((behind, Millis(12_000))));
        assert_eq!(wait(stand, Millis(12_000)), None, "patience is over");
    }

    #[test]
    fn a_lease_is_waited_out_and_looked_at_when_it_ends_but_not_one_that_nobody_keeps_a_book_of() {
        let bound = State::default().fences.waited().bound();
        let held = |left| [Standing::Holds(left), Standing::Served, Standing::Unbound];
        let now = Millis(10_000);
        let behind = Wait::Views { index: 40, behind: vec![1, 3] };
        let ends = now.plus(Period(900));
        assert_eq!(wait(held(Period(900)), now), Some((behind.clone(), ends)), "looked at again when it ends");
        assert!(wait(held(Period(900)), Millis(12_000)).is_some(), "waited for longer than patience");
        let gives_up = State::default().fences.gives_up(Millis(8_000));
        assert_eq!(wait(held(Period(900)), gives_up), None, "and not for ever");
        let unknown = Period(bound.0 + 1);
        assert_eq!(wait(held(unknown), now), Some((behind, Millis(12_000))), "patience alone");
        assert_eq!(wait(held(unknown), Millis(12_000)), None);
    }
}
