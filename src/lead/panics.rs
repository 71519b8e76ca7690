//! Panics of the leader's loop, on this node and the others: three in ten minutes stop the part that panics, on every
//! node.
//!
//! What makes the planner panic is mostly in State or in a report, so the next leader would panic as well, and the one
//! after it. A node that panics tells the others what it knows before it hands leadership over, so that each node knows
//! of all panics. They are kept in memory only: a command would have to be agreed on by the very nodes that may be at
//! fault, and a restarted node is meant to try again.
//!
//! Not here: telling the others (`node`), catching panics (`loop_`).

use std::{collections::BTreeMap, fmt};

use parking_lot::Mutex;

use crate::{clock::Mono, model::NodeId};

/// Panics within [`WINDOW_MS`] after which the part rests.
pub const MOST: usize = 3;
/// How long a panic counts.
pub const WINDOW_MS: u64 = 600_000;
/// Longest reason that is kept.
const MAX_REASON: usize = 300;
/// Panics that are kept at most.
const MAX_KEPT: usize = 64;

/// A part of the loop that can be stopped by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Part {
    /// What was heard becomes facts.
    Facts,
    /// What to do is planned.
    Plan,
    /// All the rest.
    #[default]
    Rest,
}

impl Part {
    /// Its name on the wire and for people.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The part of this name; an unknown name is the rest of the loop.
    pub fn named(name: &str) -> Self {
        name.parse().unwrap_or_default()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Facts => "taking in what workers report",
            Self::Plan => "planning",
            Self::Rest => "the leader's loop",
        })
    }
}

/// A panic of a part of planning, as nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    pub node: NodeId,
    /// Tells two of one node apart; differs from process to process.
    pub id: u64,
    /// When, on this node's clock.
    pub at: Mono,
    pub part: Part,
    pub reason: String,
}

/// What is known of panics.
#[derive(Debug, Default)]
pub struct Panics {
    known: Mutex<BTreeMap<(NodeId, u64), Panic>>,
}

impl Panics {
    /// Takes a panic in; one that is known already changes nothing.
    pub fn learn(&self, mut panic: Panic, now: Mono) {
        panic.reason = panic.reason.chars().take(MAX_REASON).collect();
        let mut known = self.known.lock();
        known.retain(|_, p| now.since(p.at) < WINDOW_MS);
        if known.len() < MAX_KEPT && now.since(panic.at) < WINDOW_MS {
            known.entry((panic.node, panic.id)).or_insert(panic);
        }
    }

    /// Those of the last ten minutes.
    pub fn recent(&self, now: Mono) -> Vec<Panic> {
        self.known.lock().values().filter(|p| now.since(p.at) < WINDOW_MS).cloned().collect()
    }

    /// Why a part rests at `now`, and for how many milliseconds still.
    pub fn stopped(&self, part: Part, now: Mono) -> Option<(String, u64)> {
        let mut of: Vec<Panic> = self.recent(now).into_iter().filter(|p| p.part == part).collect();
        of.sort_by_key(|p| std::cmp::Reverse(p.at));
        // Until the third newest does not count any more.
        let third = of.get(MOST - 1)?;
        let left = WINDOW_MS.saturating_sub(now.since(third.at));
        let newest = of.first().unwrap_or(third);
        let nodes: std::collections::BTreeSet<NodeId> = of.iter().map(|p| p.node).collect();
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        let text = format!(
            "{part} is stopped: it panicked {} times within 10 minutes (node {}), last with: {}; it is tried again in {} min",
            of.len(),
            nodes.join(", "),
            newest.reason,
            left.div_ceil(60_000)
        );
        Some((text, left))
    }

    /// Why any part rests.
    pub fn any_stopped(&self, now: Mono) -> Option<String> {
        [Part::Plan, Part::Facts, Part::Rest].into_iter().find_map(|p| self.stopped(p, now)).map(|(why, _)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(node: NodeId, id: u64, at: u64, part: Part) -> Panic {
        Panic { node, id, at: Mono(at), part, reason: "attempt to multiply with overflow".into() }
    }

    #[test]
    fn three_of_any_nodes_within_ten_minutes_stop_that_part_and_no_other() {
        let panics = Panics::default();
        for (node, at) in [(1, 1_000), (2, 2_000)] {
            panics.learn(panic(node, 7, at, Part::Plan), Mono(at));
            // Told again by another node.
            panics.learn(panic(node, 7, at + 5, Part::Plan), Mono(at + 10));
        }
        panics.learn(panic(3, 7, 2_500, Part::Facts), Mono(2_500));
        assert_eq!(panics.stopped(Part::Plan, Mono(3_000)), None);
        panics.learn(panic(3, 8, 3_000, Part::Plan), Mono(3_000));
        let (why, left) = panics.stopped(Part::Plan, Mono(3_000)).unwrap();
        assert!(
            why.contains("planning is stopped") && why.contains("node 1, 2, 3") && why.contains("overflow"),
            "{why}"
        );
        assert_eq!(left, WINDOW_MS - 2_000);
        assert_eq!(panics.stopped(Part::Facts, Mono(3_000)), None);
        assert!(panics.any_stopped(Mono(3_000)).is_some());
        assert_eq!(panics.stopped(Part::Plan, Mono(601_000)), None, "the first of them is ten minutes old");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let panics = Panics::default();
        for id in 0..1_000 {
            panics.learn(Panic { reason: "x".repeat(10_000), ..panic(1, id, 5, Part::Rest) }, Mono(5));
        }
        assert_eq!(panics.recent(Mono(5)).len(), MAX_KEPT);
        assert!(panics.recent(Mono(5)).iter().all(|p| p.reason.len() == MAX_REASON));
        assert_eq!(Part::named("plan"), Part::Plan);
        assert_eq!(Part::named("anything"), Part::Rest);
    }
}
