//! Packages of one deployment: each is fetched by itself, so that a missing one delays no other.
//!
//! Invariant: a refused package is not asked for again in the same generation. Not here: fetching and unpacking
//! (`fetch`).

use std::{collections::BTreeSet, panic::AssertUnwindSafe, path::Path};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Deployment;
use crate::{
    agent::{
        assignment::HeldPackage,
        fetch::FetchError,
        files,
        journal::JournalError,
        ledger::{Ledger, Record},
    },
    model::{Digest, Pair},
    supervise,
};

/// A fetch that ended: in which generation, of what, and why it was refused.
pub(super) struct Fetched {
    generation: u64,
    digest: Digest,
    refused: Option<String>,
}

/// What is being fetched.
pub(super) struct Fetching {
    wanted: BTreeSet<Digest>,
    cancel: CancellationToken,
    tell: mpsc::UnboundedSender<Fetched>,
    told: mpsc::UnboundedReceiver<Fetched>,
}

impl Default for Fetching {
    fn default() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { wanted: BTreeSet::new(), cancel: CancellationToken::new(), tell, told }
    }
}

impl Fetching {
    /// The next one that ends.
    pub async fn done(&mut self) -> Option<Fetched> {
        self.told.recv().await
    }

    /// Gives up what is under way; what is still wanted is asked for again.
    pub fn cancel(&mut self) {
        self.cancel.cancel();
        self.cancel = CancellationToken::new();
        self.wanted.clear();
    }
}

impl Deployment {
    /// Asks for what is wanted, not there and not asked for.
    pub(super) fn fetch(&mut self, ledger: &Ledger) {
        let Some(assigned) = ledger.assigned.as_ref().filter(|_| !ledger.removed) else { return };
        let mut wanted = assigned.hold.clone();
        for entry in &assigned.entries {
            if !wanted.iter().any(|h| h.digest == entry.pair.digest) {
                wanted.push(HeldPackage { digest: entry.pair.digest.clone(), size: 0 });
            }
        }
        let refused = |d: &Digest| ledger.refused().is_some_and(|all| all.contains_key(d));
        wanted.retain(|h| !self.store.has(&h.digest) && !refused(&h.digest));
        for hold in wanted {
            if !self.fetching.wanted.insert(hold.digest.clone()) {
                continue;
            }
            let (store, cancel, tell) = (self.store.clone(), self.fetching.cancel.clone(), self.fetching.tell.clone());
            let generation = assigned.generation;
            tokio::spawn(async move {
                let refused = match AssertUnwindSafe(store.ensure(&hold, &cancel)).catch_unwind().await {
                    Ok(Ok(())) => None,
                    Ok(Err(FetchError::Cancelled)) => return,
                    Ok(Err(e @ (FetchError::Refused(_) | FetchError::Later(_)))) => Some(e.to_string()),
                    Err(panic) => {
                        let words = supervise::words(&*panic);
                        Some(format!("fetching {} panicked: {words}", hold.digest.short()))
                    }
                };
                let _ = tell.send(Fetched { generation, digest: hold.digest, refused });
            });
        }
    }

    /// One has ended.
    pub(super) async fn fetched(&mut self, done: Fetched) -> Result<(), JournalError> {
        let Fetched { generation, digest, refused } = done;
        self.fetching.wanted.remove(&digest);
        let record = match refused {
            None => Record::Staged { digest },
            Some(reason) => {
                tracing::error!(deployment = %self.shared.deployment, generation, "{reason}");
                Record::Refused { generation, digest, reason }
            }
        };
        self.shared.book.write(record).await
    }

    /// Whether all that is held is in place.
    pub(super) fn is_staged(&self, ledger: &Ledger) -> bool {
        ledger.assigned.iter().flat_map(|a| &a.hold).all(|h| self.store.has(&h.digest))
    }

    /// Points `current` and `previous` at what they name.
    pub(super) fn link(&self, ledger: &Ledger) {
        let target = |pair: Option<&Pair>| {
            let pair = pair.filter(|p| self.store.has(&p.digest))?;
            Some(Path::new("../../releases").join(pair.digest.as_str()))
        };
        let assigned = ledger.assigned.as_ref();
        let pairs = [
            (self.shared.dir.current(), assigned.and_then(|a| a.current.as_ref())),
            (self.shared.dir.previous(), assigned.and_then(|a| a.previous.as_ref())),
        ];
        for (link, pair) in pairs {
            if let Err(e) = files::relink(&link, target(pair).as_deref()) {
                tracing::warn!(link = %link.display(), "cannot set the link: {e}");
            }
        }
    }
}
