//! What a deployment shows of itself: its part of the board, and so of the next report.
//!
//! Not here: the board (`board`), what the deployment does (`reconcile`).

use std::collections::BTreeMap;

use super::{Deployment, Live};
use crate::{
    agent::{assignment::Entry, board::DeploymentReport, instance::Status, ledger::Ledger},
    model::{Health, InstanceId, Life, Permit},
    wire::v1,
};

impl Deployment {
    fn reached(&self, ledger: &Ledger) -> Option<v1::ReachedReport> {
        let mut report = self.got(ledger)?;
        self.fit(ledger, &mut report);
        Some(report)
    }

    /// How far it got.
    fn got(&self, ledger: &Ledger) -> Option<v1::ReachedReport> {
        let assigned = ledger.assigned.as_ref().filter(|_| !ledger.removed)?;
        let generation = assigned.generation;
        let packages = ledger.refused().into_iter().flat_map(|all| all.keys()).map(ToString::to_string);
        let packages: Vec<String> = packages.collect();
        let say = |state: &str, detail: &str| {
            Some(v1::ReachedReport {
                deployment: self.shared.deployment.to_string(),
                generation,
                state: state.into(),
                detail: detail.chars().take(1000).collect(),
                packages: if state == "refused" { packages.clone() } else { Vec::new() },
                fit: String::new(),
                lacks: String::new(),
            })
        };
        if let Some((_, why)) = self.conflict.as_ref().filter(|(g, _)| *g == generation) {
            return say("failed", why);
        }
        if ledger.committed == generation {
            return say("committed", "");
        }
        let failed = |e: &Entry| ledger.instances.get(&e.id).filter(|k| k.ended == Some(true)).map(|k| (e.id, &k.exit));
        if let Some((id, why)) = ledger.entries().iter().find_map(failed) {
            return say("failed", &format!("{id}: {why}"));
        }
        if let Some((_, why)) = ledger.refused().and_then(|all| all.iter().next()) {
            return say("refused", why);
        }
        if assigned.permit >= Permit::Activate && self.is_active(ledger) {
            return say("active", "");
        }
        if self.is_staged(ledger) {
            return say("staged", "");
        }
        let why = assigned.hold.iter().find_map(|h| self.store.in_the_way(&h.digest));
        say("accepted", &why.unwrap_or_default())
    }

    pub(super) fn hang(&self) {
        let view = self.read(|ledger| {
            let mut instances = BTreeMap::new();
            for (id, known) in ledger.instances.iter().filter(|(_, k)| k.ended.is_some()) {
                let life = if known.ended == Some(true) { Life::Failed } else { Life::Gone };
                let status = Status {
                    life,
                    health: Health::Unknown,
                    failures: 0,
                    restarts: known.restarts,
                    exit: known.exit.clone(),
                };
                instances.insert(*id, instance_report(*id, &status));
            }
            // An instance whose end is journalled but not yet heard is not shown as running once more.
            let here = self.live.iter().filter(|(id, _)| ledger.instances.get(id).is_none_or(|k| k.ended.is_none()));
            instances.extend(here.map(|(id, live)| (*id, instance_report(*id, &live.status))));
            let known = |l: &Live| l.status.health != Health::Unknown || l.orders.borrow().stop;
            let passed = |id: &InstanceId| ledger.instances.get(id).is_some_and(|k| k.passed && k.ended.is_none());
            DeploymentReport {
                instances: instances.into_values().collect(),
                reached: self.reached(ledger),
                counts: self.counts(ledger),
                needs: ledger.needs(),
                settled: self.live.iter().all(|(id, l)| known(l) || !passed(id)),
            }
        });
        self.board.hang(&self.shared.deployment, view);
    }
}

fn instance_report(id: InstanceId, s: &Status) -> v1::InstanceReport {
    v1::InstanceReport {
        id: id.to_string(),
        life: s.life.to_string(),
        health: s.health.to_string(),
        failures: s.failures,
        restarts: s.restarts,
        exit: s.exit.chars().take(500).collect(),
    }
}
