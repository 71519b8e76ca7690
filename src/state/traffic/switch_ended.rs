//! `SwitchEnded`: a switch is over. One that says "fenced" names for every server of the fence set its word or the end
//! of its lease.

use super::{
    bound::{bound, fence_set},
    switches,
};
use crate::state::base::{prelude::*, servers::differs};

/// Longest note of an end.
const MAX_NOTE: usize = 2048;

fields! {
    /// A switch is over.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SwitchEnded {
        1 pub switch: u64,
        /// Its revision seen.
        2 pub seen: u64,
        3 [required] pub end: SwitchEnd,
    }
}

impl Apply for SwitchEnded {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { switch: id, seen, ref end } = self;
        let mut s = switches::open(cx, id, seen)?;
        if end.switched != s.moved.is_some() {
            return guard(format!("s-{id} has {}moved", if s.moved.is_some() { "" } else { "not " }));
        }
        if end.note.len() > MAX_NOTE {
            return guard("its note is too long");
        }
        if end.fenced_at.is_some() {
            fenced(cx, &s, end)?;
        }
        let what = match (end.switched, end.fenced_at) {
            (true, Some(_)) => "fenced",
            (true, None) => "over, not fenced",
            (false, _) => "taken back",
        };
        for t in &s.targets {
            switches::announce(cx, id, &t.deployment, what);
        }
        s.end = Some(SwitchEnd { at: cx.now(), ..end.clone() });
        s.revision = s.revision.saturating_add(1);
        switches::edit(cx, |f| {
            f.armed.retain(|_, a| a.owner != ArmedBy::Switch(id));
            f.switches.insert(id, s);
        });
        switches::forget(cx);
        Ok(())
    }
}

/// What "fenced" says must be in its own record: every server, and only those that are bound may be waited out.
fn fenced(cx: &Cx<'_>, s: &Switch, end: &SwitchEnd) -> Done {
    for node in fence_set(cx.s) {
        let how = end.servers.iter().find(|(n, _, _)| *n == node).map(|(_, _, how)| *how);
        let ok = match how {
            Some(ServerEnd::Served(_)) => !differs(cx.s, node),
            Some(ServerEnd::Expired) => s.targets.iter().all(|t| bound(cx.s, &t.deployment, node, 0)),
            Some(ServerEnd::Holds | ServerEnd::Unbound) | None => false,
        };
        if !ok {
            return guard(format!("s-{} is not fenced at node {node}", s.id));
        }
    }
    Ok(())
}
