//! The faults, drawn from a seed: each kind comes up once before any comes up again.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

use slipway::wire::v1;

use super::{
    Counts, NEW, NODES,
    load::{self, Shared},
};
use crate::lab::{Lab, Net, Skew, eventually, number};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `kill -9`.
    Kill,
    /// All nodes write a snapshot, then `kill -9` of all at once: what a snapshot leaves out is gone.
    KillAll,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// A node is cut off in both directions.
    Partition,
    /// What a node sends does not arrive, or what it is sent.
    OneWay,
    /// Three restarts in a row.
    Restarts,
    /// A node is down while the others shorten their logs.
    Snapshot,
    /// What was not synced is gone: on one node, or on all just after an acknowledgement.
    PowerCut,
    PowerCutAll,
    /// The disk fails under a running node.
    DiskFails,
    /// No space is left.
    DiskFull,
    /// The wall clock jumps.
    Clock,
    /// `kill -9`, and the node comes back as the other build; once all are new the upgrade is finalised.
    Upgrade,
}

/// What the machine allows, and where the faults come from.
pub struct Faults {
    random: StdRng,
    net: Net,
    skews: Vec<Skew>,
    began: Instant,
    deck: Vec<Fault>,
    kinds: Vec<Fault>,
    /// So many have happened.
    happened: usize,
    /// Whether nobody left a kind out.
    all: bool,
    /// From then on no node can be taken back.
    finalising: bool,
}

impl Faults {
    pub fn new(random: StdRng, net: Net, skews: Vec<Skew>, disks: bool, upgrade: bool) -> Self {
        use Fault::*;
        let mut kinds = vec![Kill, KillAll, Pause, Partition, OneWay, Restarts, Snapshot];
        if disks {
            kinds.extend([PowerCut, PowerCutAll, DiskFails, DiskFull]);
        }
        if !skews.is_empty() {
            kinds.push(Clock);
        }
        if upgrade {
            kinds.push(Upgrade);
        }
        let allowed = kinds.len();
        if let Ok(only) = std::env::var("SLIPWAY_CHAOS_FAULTS") {
            let named: Vec<&str> = only.split(',').filter(|n| !n.is_empty()).collect();
            let all: Vec<String> = kinds.iter().map(|k| format!("{k:?}")).collect();
            kinds.retain(|k| named.is_empty() || named.contains(&format!("{k:?}").as_str()));
            assert!(named.iter().all(|n| all.iter().any(|a| a == n)), "{only:?}: the faults are {}", all.join(", "));
        }
        let (all, began) = (kinds.len() == allowed, Instant::now());
        Self { random, net, skews, began, deck: Vec::new(), kinds, happened: 0, all, finalising: false }
    }

    /// Whether each kind has happened: the deck was gone through once.
    pub fn each_happened(&self) -> bool {
        self.happened >= self.kinds.len()
    }

    /// Whether it is every kind that this machine allows.
    pub fn are_all(&self) -> bool {
        self.all
    }

    /// Whether clocks can be made to jump.
    pub fn have_clocks(&self) -> bool {
        !self.skews.is_empty()
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    /// A wait of so many milliseconds.
    fn wait(&mut self, from: u64, to: u64) {
        std::thread::sleep(Duration::from_millis(self.random.random_range(from..to)));
    }

    /// No node may have ended by itself.
    pub fn all_run(&self, lab: &mut Lab) {
        for node in &mut lab.nodes {
            if let Some(status) = node.ended() {
                let said = node.said();
                let why = said.lines().rev().find(|l| l.starts_with("slipwayd: ")).unwrap_or_default();
                panic!("{} ended by itself with {status}: {why}", node.name);
            }
        }
    }

    /// One fault, from its beginning to its end, and a moment of rest.
    pub fn next(&mut self, lab: &mut Lab, shared: &Shared, counts: &mut Counts) {
        self.all_run(lab);
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            self.deck.shuffle(&mut self.random);
        }
        let Some(fault) = self.deck.pop() else { return };
        self.happened += 1;
        let any = self.random.random_range(0..usize::from(NODES));
        // Every second time it is the leader's turn.
        let leads = || lab.status().ok().map(|s| number(&s, "leader_id")).filter(|id| (1..=NODES.into()).contains(id));
        let at = match self.random.random::<bool>().then(leads).flatten() {
            Some(id) => usize::try_from(id - 1).unwrap(),
            None => any,
        };
        println!("chaos: {:?} {fault:?} at n{}", self.began.elapsed(), at + 1);
        self.happen(fault, at, lab, shared, counts);
        self.wait(300, 1000);
    }

    fn happen(&mut self, fault: Fault, at: usize, lab: &mut Lab, shared: &Shared, counts: &mut Counts) {
        match fault {
            Fault::Kill => {
                counts.kills += 1;
                lab.nodes[at].kill();
                self.wait(0, 1500);
                lab.nodes[at].start();
            }
            Fault::KillAll => {
                counts.snapshots += snapshots(lab, None);
                self.wait(0, 300);
                counts.kills += u32::from(NODES);
                lab.nodes.iter_mut().for_each(crate::lab::Daemon::kill);
                self.wait(0, 300);
                lab.nodes.iter_mut().for_each(crate::lab::Daemon::start);
                self.wait(800, 1500);
            }
            Fault::Pause => {
                counts.pauses += 1;
                lab.nodes[at].pause();
                self.wait(300, 3000);
                lab.nodes[at].resume();
            }
            Fault::Partition => {
                counts.partitions += 1;
                self.cut(at, true, true);
            }
            Fault::OneWay => {
                counts.one_way += 1;
                let out = self.random.random();
                self.cut(at, out, !out);
            }
            Fault::Restarts => {
                counts.restart_loops += 1;
                for _ in 0..3 {
                    lab.nodes[at].kill();
                    lab.nodes[at].start();
                    self.wait(50, 500);
                }
            }
            Fault::Snapshot => {
                lab.nodes[at].kill();
                counts.kills += 1;
                self.wait(500, 1500);
                counts.snapshots += snapshots(lab, Some(at));
                lab.nodes[at].start();
            }
            Fault::PowerCut => {
                counts.power_cuts += 1;
                power_cut(lab, at);
                self.wait(0, 500);
                lab.nodes[at].start();
            }
            Fault::PowerCutAll => {
                counts.power_cuts += u32::from(NODES);
                // The disks stop first, all within a millisecond or two, right after somebody was told that a write is
                // safe.
                counts.power_cuts_after_acknowledgements += u32::from(shared.await_acknowledgement());
                lab.disks.iter().for_each(crate::lab::Disk::cut_power);
                for n in 0..lab.nodes.len() {
                    lab.nodes[n].kill();
                    lab.disks[n].power_up();
                }
                lab.nodes.iter_mut().for_each(crate::lab::Daemon::start);
                self.wait(800, 1500);
            }
            Fault::DiskFails => {
                counts.disk_errors += 1;
                lab.disks[at].cut_power();
                ends_by_itself(lab, at, "Input/output error");
                lab.disks[at].power_up();
                lab.nodes[at].start();
            }
            Fault::DiskFull => {
                counts.full_disks += 1;
                lab.disks[at].fill();
                self.wait(1000, 2500);
                let ended = lab.nodes[at].ended().is_some();
                lab.disks[at].make_room();
                if ended {
                    counts.ended_on_full_disks += 1;
                    let said = lab.nodes[at].tail();
                    assert!(said.contains("No space left"), "n{} does not say why it ended:\n{said}", at + 1);
                    lab.nodes[at].kill();
                    lab.nodes[at].start();
                }
            }
            Fault::Clock => {
                counts.clock_jumps += 1;
                let hows = ["-3600s", "+3600s", "-30s", "+30s", "+0s"];
                let skew = self.random.random_range(0..self.skews.len());
                self.skews[skew].set(hows[self.random.random_range(0..hows.len())]);
                self.wait(300, 1200);
            }
            Fault::Upgrade => {
                counts.builds_changed += 1;
                let node = &mut lab.nodes[at];
                node.kill();
                node.flags =
                    if node.flags.is_empty() || self.finalising { NEW.map(String::from).into() } else { Vec::new() };
                node.start();
                self.wait(300, 1500);
                if lab.nodes.iter().all(|n| !n.flags.is_empty()) {
                    self.finalising = true;
                    // It may be refused for now: a node is down, or has not said yet what it is.
                    let _ = load::runtime().block_on(finalise(&[lab.client(1), lab.client(2), lab.client(3)]));
                }
            }
        }
    }

    /// After the faults: whoever is still the older build becomes the new one, and the upgrade is finalised; the level
    /// then.
    pub fn finish_upgrade(&mut self, lab: &mut Lab, addresses: &[String], counts: &mut Counts) -> u32 {
        self.finalising = true;
        for node in lab.nodes.iter_mut().filter(|n| n.flags.is_empty()) {
            counts.builds_changed += 1;
            node.kill();
            node.flags = NEW.map(String::from).into();
            node.start();
        }
        let runtime = load::runtime();
        eventually("the upgrade is finalised", Duration::from_secs(60), || runtime.block_on(finalise(addresses)))
    }

    /// Cuts what a node sends, what it is sent, or both, for a while.
    fn cut(&mut self, at: usize, out: bool, inwards: bool) {
        let n = u8::try_from(at + 1).unwrap();
        let ends: Vec<(u8, u8)> = (1..=NODES)
            .filter(|other| *other != n)
            .flat_map(|other| [(out, (n, other)), (inwards, (other, n))])
            .filter_map(|(wanted, ends)| wanted.then_some(ends))
            .collect();
        ends.iter().for_each(|(from, to)| self.net.cut(*from, *to));
        self.wait(500, 3000);
        ends.iter().for_each(|(from, to)| self.net.mend(*from, *to));
    }
}

/// Raises the feature level to 2, unless it is; the level.
async fn finalise(addresses: &[String]) -> Result<u32, String> {
    let client = load::client(addresses, 0);
    let level = client.status().await.map_err(|e| e.to_string())?.level;
    if level >= 2 {
        return Ok(level);
    }
    client
        .finalize(v1::FinalizeRequest { from: level, ..Default::default() })
        .await
        .map(|r| r.level)
        .map_err(|e| e.to_string())
}

/// All nodes, or all but one, write a snapshot and drop what it covers; how many did.
fn snapshots(lab: &Lab, but: Option<usize>) -> u32 {
    let runtime = load::runtime();
    let one = |n: usize| {
        let address = [lab.client(u8::try_from(n + 1).unwrap())];
        u32::from(runtime.block_on(async { load::client(&address, 0).make_snapshot().await }).is_ok())
    };
    (0..lab.nodes.len()).filter(|n| Some(*n) != but).map(one).sum()
}

fn power_cut(lab: &mut Lab, at: usize) {
    lab.disks[at].cut_power();
    lab.nodes[at].kill();
    lab.disks[at].power_up();
}

/// A node whose disk fails says so and ends; nothing of it runs when this returns.
fn ends_by_itself(lab: &mut Lab, at: usize, why: &str) {
    eventually("a node whose disk fails ends", Duration::from_secs(20), || match lab.nodes[at].ended() {
        Some(status) if !status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let said = lab.nodes[at].tail();
    assert!(said.contains(why), "n{} does not say {why:?}:\n{said}", at + 1);
    lab.nodes[at].kill();
}
