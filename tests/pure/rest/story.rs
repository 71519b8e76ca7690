//! What a story is made of: releases that do well or do not, and acts in their order. A story is data; `draw` makes one
//! up, `play` plays it, `law` asks it what an end may look like.

use std::fmt;

use slipway::model::{RolloutParams, Version};

use super::shape::Shape;

/// What is wrong with a release's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    Nothing,
    /// Exits so long after its start, before it ever passes.
    Exits(u64),
    /// Never passes.
    Hangs,
    /// Passes, and stops passing so long after its start.
    Fades(u64),
    /// Errors in basis points of its requests.
    Errors(u64),
    /// Its smoke test fails.
    Smoke,
    /// It shows requests and no errors that could be counted.
    Uncounted,
}

/// Whether its package can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    Here,
    /// Not before so many milliseconds after the story's first act.
    Late(u64),
    /// From no node, ever.
    Never,
    /// Arrives, and cannot be unpacked.
    Refused,
}

/// A release.
#[derive(Clone, Debug)]
pub struct Release {
    pub version: Version,
    pub ill: Ill,
    /// The worker (by its number, from 1) that alone shows it; `None`: all.
    pub only_on: Option<u32>,
    pub package: Package,
}

impl Release {
    pub fn good(n: u32) -> Self {
        let version = format!("{n}.0.0").parse().expect("a version");
        Self { version, ill: Ill::Nothing, only_on: None, package: Package::Here }
    }
}

/// One act. Deployments, releases and workers are numbers of the shape's and the story's lists.
#[derive(Clone, Debug)]
pub enum Act {
    Start {
        d: usize,
        release: usize,
        params: Box<RolloutParams>,
        replace: bool,
    },
    Pause(usize),
    Resume(usize),
    Abort {
        d: usize,
        as_is: bool,
    },
    Promote {
        d: usize,
        full: bool,
    },
    Rollback(usize),
    /// A machine burns.
    Lose(u32),
    /// It burns, and another one comes under another name.
    Replace(u32),
    /// It is cut off for so long; its processes go on, or all start anew.
    Away {
        worker: u32,
        ms: u64,
        reboots: bool,
    },
    /// All machines at once: the network, or the power.
    AllAway {
        ms: u64,
        reboots: bool,
    },
    /// The nth instance that runs dies.
    Kill(u64),
    /// A DNS server falls silent for so long, or for ever; when it is back it may have been started anew.
    Mute {
        node: u64,
        ms: Option<u64>,
        restarts: bool,
    },
    /// The leader dies after so many more entries; so many milliseconds without one.
    LeaderDies {
        after: u64,
        outage: u64,
    },
    /// Of the next plan only so many commands arrive.
    LoseProposals(u64),
    /// A release's program and package are made good.
    Mend(usize),
    /// The deployment's spec changes: what starts from now on is another pair.
    Respec(usize),
    /// A release's package is gone from every node: only who has it unpacked can run it.
    PackageGone(usize),
}

/// When an act comes.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So many milliseconds after the one before.
    After(u64),
    /// Once nothing is under way, or after so many milliseconds.
    Idle(u64),
    /// Once so many more entries are committed, or after a minute.
    Entries(u64),
    /// Once a rollout bakes, or after a minute.
    Bake,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Story {
    pub seed: u64,
    pub shape: Shape,
    pub releases: Vec<Release>,
    pub acts: Vec<(When, Act)>,
    /// Index of the release that nobody has used: what a person pushes when nothing else helps.
    pub fix: usize,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(ms) => write!(f, "{}.{:03} s later", ms / 1000, ms % 1000),
            Self::Idle(ms) => write!(f, "once idle, or {} s later", ms / 1000),
            Self::Bake => f.write_str("in a bake"),
            Self::Entries(n) => write!(f, "{n} entries later"),
        }
    }
}

impl Act {
    /// The kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { replace: false, .. } => "start",
            Self::Start { replace: true, .. } => "start --replace",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Abort { as_is: false, .. } => "abort",
            Self::Abort { as_is: true, .. } => "abort --as-is",
            Self::Promote { full: false, .. } => "promote",
            Self::Promote { full: true, .. } => "promote --full",
            Self::Rollback(_) => "rollback",
            Self::Lose(_) => "worker lost",
            Self::Replace(_) => "worker replaced",
            Self::Away { reboots: false, .. } => "worker away",
            Self::Away { reboots: true, .. } => "worker reboots",
            Self::AllAway { .. } => "all workers away",
            Self::Kill(_) => "instance killed",
            Self::Mute { ms: Some(_), .. } => "server silent",
            Self::Mute { ms: None, .. } => "server silent for ever",
            Self::LeaderDies { .. } => "leader dies",
            Self::LoseProposals(_) => "proposals lost",
            Self::Mend(_) => "release mended",
            Self::PackageGone(_) => "package gone",
            Self::Respec(_) => "another spec",
        }
    }
}

/// Parameters, as far as they differ between stories.
pub fn told(p: &RolloutParams) -> String {
    let strategy = p.strategy.as_ref().map_or_else(|| "default".into(), |s| s.to_string());
    format!(
        "{strategy} parallelism {} surge {} unavailable {} delay {} bake {} grace {} deadline {} {:?} {:?}{}",
        p.parallelism,
        p.max_surge,
        p.max_unavailable,
        p.delay,
        p.bake,
        p.grace,
        p.deadline,
        p.failure_action,
        p.on_no_data,
        if p.smoke.is_some() { " smoke" } else { "" }
    )
}

impl Story {
    /// What a person reads before the transcript.
    pub fn told(&self) -> Vec<String> {
        let mut lines = vec![format!("seed {}", self.seed)];
        lines.extend(self.shape.told());
        for (n, r) in self.releases.iter().enumerate() {
            let on = r.only_on.map_or_else(String::new, |w| format!(" on w{w}"));
            let fix = if n == self.fix { ", the fix" } else { "" };
            lines.push(format!("release {}: {:?}{on}, package {:?}{fix}", r.version, r.ill, r.package));
        }
        for (when, act) in &self.acts {
            let what = match act {
                Act::Start { d, release, params, .. } => format!(
                    "{} {} to {}: {}",
                    act.kind(),
                    self.shape.deployments[*d].id,
                    self.releases[*release].version,
                    told(params)
                ),
                Act::Mend(r) | Act::PackageGone(r) => format!("{} {}", act.kind(), self.releases[*r].version),
                Act::Pause(_)
                | Act::Resume(_)
                | Act::Abort { .. }
                | Act::Promote { .. }
                | Act::Rollback(_)
                | Act::Lose(_)
                | Act::Replace(_)
                | Act::Away { .. }
                | Act::AllAway { .. }
                | Act::Kill(_)
                | Act::Mute { .. }
                | Act::LeaderDies { .. }
                | Act::LoseProposals(_)
                | Act::Respec(_) => format!("{} {act:?}", act.kind()),
            };
            lines.push(format!("  {when}: {what}"));
        }
        lines
    }
}
