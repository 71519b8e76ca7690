//! Whether this machine has what the next pair needs. It is checked once the package is there, before anything is
//! stopped or started for it.
//!
//! Invariants: the answer is what a start, or its checks, would fail with (`launch::ready`, `Way`); while something
//! lacks, the check is repeated, so that a mended machine reports it by itself. Not here: what the cluster does with
//! the answer (`engine::stage`).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::Deployment;
use crate::{
    agent::{
        assignment::Next,
        launch,
        ledger::Ledger,
        runtime::{Runtime, in_use},
    },
    ask::Way,
    model::{Spec, address_variable},
    wire::v1,
};

/// Between two looks while something lacks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a look found in a generation.
type Found = (u64, Result<(), String>);

/// The newest look, and the one under way.
pub(super) struct Fitness {
    found: Option<Found>,
    looking: Option<u64>,
    tell: mpsc::UnboundedSender<Found>,
    told: mpsc::UnboundedReceiver<Found>,
}

impl Default for Fitness {
    fn default() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { found: None, looking: None, tell, told }
    }
}

impl Fitness {
    /// The next look that ends.
    pub async fn done(&mut self) -> Option<Found> {
        self.told.recv().await
    }

    /// One has ended; what it says of an earlier generation is old.
    pub fn take(&mut self, found: Found) {
        if self.looking == Some(found.0) {
            self.looking = None;
            self.found = Some(found);
        }
    }

    /// What is known of a generation.
    fn of(&self, generation: u64) -> Option<&Result<(), String>> {
        self.found.as_ref().filter(|(of, _)| *of == generation).map(|(_, found)| found)
    }
}

impl Deployment {
    /// Looks whether what is to run next can, unless that is known or being looked at.
    pub(super) fn look(&mut self, ledger: &Ledger) {
        let (Some(assigned), Some(next)) = (&ledger.assigned, ledger.next()) else { return };
        let generation = assigned.generation;
        let known = self.fitness.of(generation);
        if self.fitness.looking == Some(generation) || known.is_some_and(Result::is_ok) {
            return;
        }
        let Some(spec) = ledger.specs.get(&next.pair.spec).filter(|_| self.store.has(&next.pair.digest)) else {
            return;
        };
        let pause = known.map(|_| LOOK_AGAIN);
        self.fitness.looking = Some(generation);
        let (shared, next, spec) = (Arc::clone(&self.shared), next.clone(), spec.clone());
        let (release, tell) = (self.layout.release(&next.pair.digest), self.fitness.tell.clone());
        // Its own instances make room, however they do it.
        let own: Vec<SocketAddr> =
            self.live.values().flat_map(|l| at(l.entry.address, l.entry.ports.values())).collect();
        tokio::spawn(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let way = Way::of(&spec.health);
            let look = move || {
                launch::ready(&shared.worker, &shared.deployment, &next.pair, &spec, &release)?;
                ports_free(shared.runtime.as_ref(), &next, &spec, &own)
            };
            // Users and files are looked up, which may take its time.
            let found = match tokio::task::spawn_blocking(look).await.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(()) => way.trust_is_there().await.map_err(|e| e.to_string()),
                Err(what) => Err(what),
            };
            let _ = tell.send((generation, found));
        });
    }

    /// Puts what is known of the next pair into a report.
    pub(super) fn fit(&self, ledger: &Ledger, report: &mut v1::ReachedReport) {
        if ledger.next().is_none() {
            return;
        }
        match self.fitness.of(report.generation) {
            None => {}
            Some(Ok(())) => report.fit = "fits".into(),
            Some(Err(what)) => {
                report.fit = "lacks".into();
                report.lacks = what.chars().take(500).collect();
            }
        }
    }
}

fn at<'a>(address: IpAddr, ports: impl Iterator<Item = &'a u16>) -> impl Iterator<Item = SocketAddr> {
    ports.map(move |port| SocketAddr::new(address, *port))
}

/// Whether only the deployment's own instances listen where the next one is to listen. An address of the pool is chosen
/// with the batch, and checked then.
fn ports_free(runtime: &dyn Runtime, next: &Next, spec: &Spec, own: &[SocketAddr]) -> Result<(), String> {
    let Some(address) = next.address else { return Ok(()) };
    for (name, (port, protocol)) in &spec.ports {
        let at = SocketAddr::new(address, *port);
        // What cannot be looked at is taken as free, as a start takes it.
        if own.contains(&at) || runtime.is_free(at, *protocol).unwrap_or(true) {
            continue;
        }
        if let Ok(Some(holder)) = runtime.holder(at, *protocol) {
            return Err(in_use(at, *protocol, &holder, &address_variable(name)));
        }
    }
    Ok(())
}
