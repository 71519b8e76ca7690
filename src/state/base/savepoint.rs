//! What a command has changed of State, taken back when it is refused.
//!
//! Invariant: after `back_to` State is what it was at `savepoint`, whatever was changed between; the compiler asks for
//! a new field of State here. Not here: the requests that are remembered, and what every entry moves (`now`, `wall`,
//! `applied`): a refusal keeps them.

use std::sync::Arc;

use crate::{
    model::ClusterId,
    state::{
        State,
        cluster::rows::{Cluster, CookieSecrets, Replicas},
        traffic::fences::Fences,
    },
};

/// What is in no table, as it was.
pub(in crate::state) struct Savepoint {
    incarnation: u64,
    level: u32,
    cluster: Option<Arc<Cluster>>,
    replicas: Arc<Replicas>,
    lineage: Vec<ClusterId>,
    fences: Arc<Fences>,
    cookies: Arc<CookieSecrets>,
}

macro_rules! of_each_table {
    ($state:expr, $what:ident) => {{
        let State {
            now: _,
            wall: _,
            applied: _,
            incarnation: _,
            level: _,
            cluster: _,
            nodes,
            environments,
            services,
            specs,
            blobs,
            releases,
            deployments,
            rollouts,
            instances,
            workers,
            assignments,
            outbox,
            requests: _,
            requests_by_expiry: _,
            events,
            replicas: _,
            lineage: _,
            fences: _,
            slots,
            backs,
            tombstones,
            cookies: _,
        } = $state;
        nodes.$what();
        environments.$what();
        services.$what();
        specs.$what();
        blobs.$what();
        releases.$what();
        deployments.$what();
        rollouts.$what();
        instances.$what();
        workers.$what();
        assignments.$what();
        outbox.$what();
        events.$what();
        slots.$what();
        backs.$what();
        tombstones.$what();
    }};
}

impl State {
    /// Notes what is changed from now on.
    pub(in crate::state) fn savepoint(&mut self) -> Savepoint {
        of_each_table!(self, mark);
        Savepoint {
            incarnation: self.incarnation,
            level: self.level,
            cluster: self.cluster.clone(),
            replicas: self.replicas.clone(),
            lineage: self.lineage.clone(),
            fences: self.fences.clone(),
            cookies: self.cookies.clone(),
        }
    }

    /// What was changed since the savepoint stays.
    pub(in crate::state) fn keep(&mut self) {
        of_each_table!(self, keep);
    }

    /// Takes back what was changed since the savepoint.
    pub(in crate::state) fn back_to(&mut self, before: Savepoint) {
        of_each_table!(self, take_back);
        let Savepoint { incarnation, level, cluster, replicas, lineage, fences, cookies } = before;
        (self.incarnation, self.level, self.cluster, self.replicas) = (incarnation, level, cluster, replicas);
        (self.lineage, self.fences, self.cookies) = (lineage, fences, cookies);
    }
}
