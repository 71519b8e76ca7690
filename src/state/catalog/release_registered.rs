//! `ReleaseRegistered`: a version of a service, whose package is fsynced on a majority of the voters.

use std::collections::BTreeMap;

use super::{copies, services};
use crate::state::base::{names, prelude::*};

fields! {
    /// Registers a release whose package a majority of voters holds.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReleaseRegistered {
        /// Of which service (made when unknown).
        1 [required] pub service: Name,
        2 [required] pub version: Version,
        /// Its package.
        3 [required] pub digest: Digest,
        /// What the builder said.
        4 [required] pub build: BuildInfo,
        /// Free labels.
        5 pub labels: BTreeMap<String, String>,
    }
}

impl Apply for ReleaseRegistered {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { service, version, digest, build, labels } = self;
        let long = |s: &String| s.len() > 256;
        build.check().map_err(|e| Rejection::Invalid(format!("build information: {e}")))?;
        if labels.len() > 64 || labels.iter().any(|(k, v)| long(k) || long(v)) {
            return Err(Rejection::Invalid("labels: at most 64, of 256 characters each".into()));
        }
        let key = (service.clone(), version.clone());
        if let Some(known) = cx.s.releases.get(&key) {
            if &known.digest == digest && known.status == ReleaseStatus::Retired {
                return Err(Rejection::Precondition(format!("{service} {version} is retired: push a new version")));
            }
            if &known.digest == digest {
                return Ok(());
            }
            return Err(Rejection::Conflict {
                what: format!(
                    "{service} {version} is registered with package {}, not {}: a version never changes, push a new one",
                    known.digest.short(),
                    digest.short()
                ),
            });
        }
        let was = cx.s.tombstones.get(&key).cloned();
        if let Some(was) = was.as_ref().filter(|was| *was != digest) {
            return Err(Rejection::Conflict {
                what: format!(
                    "{service} {version} ran with package {} before it was removed, not with {}: a version never changes, push a new one",
                    was.short(),
                    digest.short()
                ),
            });
        }
        let slug = version.slug();
        if let Some(other) = cx.s.releases_of(service).map(|r| &r.version).find(|v| v.slug() == slug) {
            return Err(Rejection::Conflict {
                what: format!(
                    "{service} {version} would have the DNS name of version {other} (v-{slug}): write it otherwise"
                ),
            });
        }
        let Some(blob) = cx.s.blobs.get(digest) else {
            return Err(Rejection::not_there(Named::Package, digest.short()));
        };
        let size = blob.size;
        let (held, voters) = copies::copies_of(cx.s, digest);
        if held.saturating_mul(2) <= voters {
            return Err(Rejection::Precondition(format!(
                "package {} is on {held} of {} nodes and needs a majority: push it again, which brings it to the nodes that lack it",
                digest.short(),
                voters
            )));
        }
        services::make_service(cx, service)?;
        let limit = cx.settings().limits.releases_per_service;
        if cx.s.releases_of(service).count() >= limit as usize {
            return Err(names::exhausted("releases of a service", limit));
        }
        let mut meta = cx.new_meta();
        meta.labels = labels.clone();
        let row = Release {
            meta,
            service: service.clone(),
            version: version.clone(),
            digest: digest.clone(),
            size,
            build: build.clone(),
            status: ReleaseStatus::Loading,
            ran: was.is_some(),
            registered_at: cx.now(),
        };
        cx.s.releases.insert(key, row);
        cx.emit(EventBody::ReleaseAdded { service: service.clone(), version: version.clone(), digest: digest.clone() });
        Ok(())
    }
}
