//! What the releases of a story do at this moment: their programs and packages, as they are or as they were mended.

use std::collections::BTreeMap;

use slipway::model::{Digest, Pair, Version, WorkerName};

use super::story::{Ill, Package, Release};

/// How a pair's processes behave on one worker.
#[derive(Clone, Copy, Default)]
pub struct Behaviour {
    pub exits: Option<u64>,
    pub hangs: bool,
    pub fades: Option<u64>,
}

/// When a package arrives.
#[derive(Clone, Copy)]
pub enum Fetch {
    At(u64),
    Never,
    Refused,
}

#[derive(Clone)]
pub struct Catalogue {
    pub releases: Vec<Release>,
    by_version: BTreeMap<Version, usize>,
    by_digest: BTreeMap<Digest, usize>,
}

pub fn digest(n: usize) -> Digest {
    Digest::new(&format!("{:064x}", n + 1)).expect("a digest")
}

/// The number in a worker's name: `w3`, and `w3b` that took its place.
pub fn number(worker: &WorkerName) -> u32 {
    worker.as_str().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
}

impl Catalogue {
    pub fn new(releases: &[Release]) -> Self {
        Self {
            releases: releases.to_vec(),
            by_version: releases.iter().enumerate().map(|(n, r)| (r.version.clone(), n)).collect(),
            by_digest: (0..releases.len()).map(|n| (digest(n), n)).collect(),
        }
    }

    pub fn of(&self, version: &Version) -> &Release {
        &self.releases[self.by_version[version]]
    }

    pub fn behaviour(&self, pair: &Pair, worker: &WorkerName) -> Behaviour {
        let r = self.of(&pair.version);
        let mut b = Behaviour::default();
        if r.only_on.is_some_and(|w| w != number(worker)) {
            return b;
        }
        match r.ill {
            Ill::Exits(at) => b.exits = Some(at),
            Ill::Hangs => b.hangs = true,
            Ill::Fades(at) => b.fades = Some(at),
            Ill::Nothing | Ill::Errors(_) | Ill::Smoke | Ill::Uncounted => {}
        }
        b
    }

    /// Errors of a version in basis points of its requests.
    pub fn errors(&self, version: &Version) -> u64 {
        match self.of(version).ill {
            Ill::Errors(bp) => bp,
            Ill::Nothing | Ill::Exits(_) | Ill::Hangs | Ill::Fades(_) | Ill::Smoke | Ill::Uncounted => 0,
        }
    }

    pub fn fetch(&self, digest: &Digest) -> Fetch {
        match self.by_digest.get(digest).map(|n| self.releases[*n].package) {
            Some(Package::Here) => Fetch::At(0),
            Some(Package::Late(at)) => Fetch::At(at),
            Some(Package::Refused) => Fetch::Refused,
            Some(Package::Never) | None => Fetch::Never,
        }
    }

    pub fn mend(&mut self, n: usize) {
        let r = &mut self.releases[n];
        (r.ill, r.package) = (Ill::Nothing, Package::Here);
    }
}
