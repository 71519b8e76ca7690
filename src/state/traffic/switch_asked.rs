//! `SwitchAsked`: everything that can be refused is refused here; then the deployments are armed. With `quorum` it is
//! made at once.

use std::collections::BTreeSet;

use super::switches;
use crate::state::base::prelude::*;

/// Deployments of one switch at most.
const MAX_DEPLOYMENTS: usize = 64;

/// Switches under way at most.
const MAX_OPEN: usize = 16;

/// Longest wait for confirmations.
const MAX_WITHIN: Period = Period::minutes(10);

/// What a deployment is to be switched to.
enum To<'a> {
    Pair(&'a Pair),
    Version(&'a Version),
    Previous,
}

/// Where a deployment goes: its stable pair and the one beside it.
fn target(cx: &Cx<'_>, d: &Deployment, to: &To<'_>) -> Result<SwitchTarget, Rejection> {
    let said = &match to {
        To::Pair(pair) => pair.version.to_string(),
        To::Version(version) => version.to_string(),
        To::Previous => "previous version".into(),
    };
    let fits = |arm: &Arm| match to {
        To::Pair(pair) => arm.pair == **pair,
        To::Version(version) => arm.pair.version == **version,
        To::Previous => arm.role == Role::Previous,
    };
    let refused = |text: String| Err(Rejection::Precondition(text));
    if let Some(rollout) = d.live {
        return Err(Rejection::Busy { rollout });
    }
    switches::not_switching(cx, &d.id)?;
    cx.unstopped(&d.id)?;
    let Some(stable) = d.arms.get(Role::Stable).filter(|_| d.route.is_some()) else {
        return refused(format!("nothing serves {} yet: `slipway rollout start` it first", d.id));
    };
    if stable.weight != WHOLE {
        return refused(format!("{} still shares its traffic after an abort: wait until stable carries it", d.id));
    }
    let others = || d.arms.iter().filter(|a| a.role != Role::Stable);
    let Some(beside) = others().find(|a| fits(a)) else {
        if stable.pair.version.to_string() == *said {
            return refused(format!("{} runs {said} already", d.id));
        }
        let have: Vec<String> = others().map(|a| a.pair.version.to_string()).collect();
        let have = if have.is_empty() { "nothing".into() } else { have.join(", ") };
        let start = |version: &str| format!("`slipway rollout start {} --to {version}` brings", d.id);
        let back = || cx.s.undoable(d).filter(|r| !r.is_rollback()).and_then(|r| r.from.as_ref());
        let how = match (to, back()) {
            (To::Version(_) | To::Pair(_), _) => format!("{} it there", start(said)),
            (To::Previous, Some(pair)) => format!("`slipway rollout rollback {}` goes back to {}", d.id, pair.version),
            (To::Previous, None) => format!("{} another version", start("VERSION")),
        };
        return refused(format!("{} has no {said} beside {} (it has {have}): {how}", d.id, stable.pair.version));
    };
    let target = SwitchTarget { deployment: d.id.clone(), from: stable.pair.clone(), to: beside.pair.clone() };
    switches::carries(cx.s, d, &target.to).map_err(Rejection::Precondition)?;
    Ok(target)
}

fields! {
    /// Switches deployments together.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SwitchAsked {
        1 [required] pub ask: SwitchAsk,
    }
}

impl Apply for SwitchAsked {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { ask } = self;
        if ask.within > MAX_WITHIN {
            return Err(Rejection::Invalid(format!("waiting for servers for {} is over {MAX_WITHIN}", ask.within)));
        }
        if cx.s.fences.open().count() >= MAX_OPEN {
            return Err(Rejection::Exhausted {
                what: "switches under way".into(),
                limit: MAX_OPEN as u64,
                fix: "wait until they are over".into(),
            });
        }
        let (targets, undoes) = targets(cx, ask)?;
        let (id, now) = (cx.at.index, cx.now());
        let ttl = targets.iter().filter_map(|t| largest_ttl(cx.s, &t.deployment)).max().unwrap_or_default();
        let row = Switch {
            id,
            revision: 1,
            targets,
            wait: ask.wait,
            unfenced: ask.unfenced,
            within: ask.within,
            asked_at: now,
            undoes,
            ttl,
            ready: None,
            moved: None,
            end: None,
        };
        for t in &row.targets {
            switches::announce(cx, id, &t.deployment, "asked for");
        }
        if ask.wait == WaitLevel::Quorum {
            let mut row = row;
            switches::apply_targets(cx, &row)?;
            row.moved = Some((id, now));
            row.end = Some(SwitchEnd {
                at: now,
                switched: true,
                fenced_at: None,
                servers: Vec::new(),
                clear_at: None,
                note: "committed; nobody waited for the servers".into(),
            });
            switches::edit(cx, |f| drop(f.switches.insert(id, row)));
            switches::forget(cx);
            return Ok(());
        }
        switches::edit(cx, |f| {
            for t in &row.targets {
                let arming = Arming { index: id, since: now, owner: ArmedBy::Switch(id), confirmed: BTreeSet::new() };
                f.armed.insert(t.deployment.clone(), arming);
            }
            f.switches.insert(id, row);
        });
        Ok(())
    }
}

fn targets(cx: &Cx<'_>, ask: &SwitchAsk) -> Result<(Vec<SwitchTarget>, Option<u64>), Rejection> {
    let to = match &ask.to {
        SwitchTo::Version(version) => To::Version(version),
        SwitchTo::Previous => To::Previous,
        SwitchTo::Back(id) => return back(cx, ask, *id),
    };
    let distinct: BTreeSet<&DeploymentId> = ask.deployments.iter().collect();
    if ask.deployments.is_empty() || ask.deployments.len() > MAX_DEPLOYMENTS || distinct.len() != ask.deployments.len()
    {
        return Err(Rejection::Invalid(format!("name 1 to {MAX_DEPLOYMENTS} deployments, each once")));
    }
    let all: Result<Vec<_>, _> = ask.deployments.iter().map(|id| target(cx, &cx.deployment(id)?, &to)).collect();
    Ok((all?, None))
}

/// A switch is taken back as a whole.
fn back(cx: &Cx<'_>, ask: &SwitchAsk, id: u64) -> Result<(Vec<SwitchTarget>, Option<u64>), Rejection> {
    let Some(old) = cx.s.fences.switches.get(&id) else {
        return Err(Rejection::not_there(Named::Switch, format_args!("s-{id}")));
    };
    if !ask.deployments.is_empty() {
        return Err(Rejection::Invalid("a switch is taken back as a whole: name no deployments".into()));
    }
    if !old.end.as_ref().is_some_and(|e| e.switched) {
        return Err(Rejection::Precondition(format!("s-{id} is under way, or moved nothing")));
    }
    let all: Result<Vec<_>, _> = old
        .targets
        .iter()
        .map(|t| {
            let d = cx.deployment(&t.deployment)?;
            target(cx, &d, &To::Pair(&t.from))
        })
        .collect();
    Ok((all?, Some(id)))
}

/// The largest TTL with which the old version may have been handed out: names of the route, roles and pins.
fn largest_ttl(s: &State, id: &DeploymentId) -> Option<Period> {
    s.deployments.get(id)?.route.as_ref().map(|r| r.ttl)
}
