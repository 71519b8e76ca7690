//! Requests by version, as instances count them: the leader hears them of the running steps and passes them on to every
//! node with its lease.
//!
//! Invariant: a count that was not renewed for a while is not shown, as silence is not zero. Not here: scraping
//! (`agent`), summing up (`observe`).

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{clock::Mono, model::DeploymentId};

/// For how long the leader's word counts.
const FRESH_MS: u64 = 15_000;

/// Requests by deployment and version.
pub type Requested = BTreeMap<DeploymentId, BTreeMap<String, u64>>;

/// The leader's last word.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<(Mono, Requested)>);

impl Requests {
    pub(super) fn set(&self, now: Mono, all: Requested) {
        *self.0.lock() = (now, all);
    }

    pub(super) fn of(&self, id: &DeploymentId, now: Mono) -> BTreeMap<String, u64> {
        let last = self.0.lock();
        if now.since(last.0) > FRESH_MS {
            return BTreeMap::new();
        }
        last.1.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn all(&self, now: Mono) -> Requested {
        let last = self.0.lock();
        if now.since(last.0) > FRESH_MS { Requested::new() } else { last.1.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_word_counts_for_nothing() {
        let requests = Requests::default();
        let id: DeploymentId = "production/shop".parse().unwrap();
        requests.set(Mono(1000), [(id.clone(), [("1.0.0".to_string(), 7)].into())].into());
        assert_eq!(requests.of(&id, Mono(1000 + FRESH_MS)).get("1.0.0"), Some(&7));
        assert!(requests.of(&id, Mono(1001 + FRESH_MS)).is_empty() && requests.all(Mono(1001 + FRESH_MS)).is_empty());
    }
}
