//! Stories at random: which releases there are, who starts what, which faults and verbs come in between, and when.
//!
//! Invariant: every choice is the dice's, so a seed is a story. Not here: whether anything of it may end well (`law`).

use slipway::model::{BasisPoints, Ceiling, FailureAction, OnNoData, Period, Portion, RolloutParams, StrategyName};

use super::dice::Dice;
use super::shape::Shape;
use super::story::{Act, Ill, Package, Release, Story, When};

/// Releases a story may use; one more is the fix.
const RELEASES: u32 = 4;

pub fn story(seed: u64) -> Story {
    let mut dice = Dice::new(seed);
    let shape = Shape::draw(&mut dice);
    let mut releases: Vec<Release> =
        (1..=RELEASES).map(|n| release(&mut dice, n, if n == 1 { 10 } else { 55 }, shape.workers)).collect();
    releases.push(Release::good(9));
    let fix = releases.len() - 1;
    let mut acts = Vec::new();
    for d in 0..shape.deployments.len() {
        acts.push((When::After(dice.within(0, 500)), start(&mut dice, d, 0, false, &shape)));
    }
    let first = if dice.percent(85) { When::Idle(120_000) } else { When::After(dice.within(500, 20_000)) };
    // Every fifth story is a long one.
    let rounds = if seed.is_multiple_of(5) { dice.within(4, 7) as usize } else { 1 + dice.weighted(&[40, 35, 25]) };
    for round in 0..rounds {
        let d = dice.within(0, shape.deployments.len() as u64 - 1) as usize;
        let release = dice.weighted(&[1, 4, 3, 2]);
        let replace = round > 0 && dice.percent(40);
        let begins = if round == 0 { first } else { between(&mut dice) };
        acts.push((begins, start(&mut dice, d, release, replace, &shape)));
        if shape.deployments.len() > 1 && dice.percent(40) {
            let release = dice.within(0, 3) as usize;
            acts.push((When::After(dice.within(0, 8000)), start(&mut dice, 1 - d, release, false, &shape)));
        }
        for _ in 0..dice.weighted(&[5, 14, 22, 22, 18, 12, 7]) {
            let act = if dice.percent(55) { fault(&mut dice, &shape, release) } else { verb(&mut dice, d) };
            let at = moment(&mut dice, &act);
            if matches!(act, Act::Abort { as_is: true, .. }) && dice.percent(60) {
                // It ends rollbacks: one is begun first.
                let back = Act::Rollback(d);
                acts.push((moment(&mut dice, &back), back));
            }
            acts.push((at, act));
        }
    }
    Story { seed, shape, releases, acts, fix }
}

/// When an act comes: mostly while something is under way; a promotion in a bake, and many a rollback after the end.
fn moment(dice: &mut Dice, act: &Act) -> When {
    let weights = match act {
        Act::Promote { full: false, .. } => [2, 10, 20, 68],
        Act::Rollback(_) => [35, 20, 40, 5],
        _ => [6, 30, 62, 2],
    };
    match dice.weighted(&weights) {
        0 => When::Idle(200_000),
        1 => When::After(soon(dice)),
        2 => When::Entries(1 + dice.within(0, 4) * dice.within(0, 5)),
        _ => When::Bake,
    }
}

/// A moment: seconds more often than minutes.
fn soon(dice: &mut Dice) -> u64 {
    let most = *dice.one(&[1000, 5000, 15_000, 40_000, 90_000]);
    dice.within(50, most)
}

fn between(dice: &mut Dice) -> When {
    if dice.percent(60) { When::Idle(dice.within(5, 300) * 1000) } else { When::After(soon(dice)) }
}

fn release(dice: &mut Dice, n: u32, ill: u64, workers: u32) -> Release {
    let mut r = Release::good(n);
    if !dice.percent(ill) {
        return r;
    }
    match dice.weighted(&[5, 4, 4, 4, 2, 2, 2, 2, 2]) {
        0 => r.ill = Ill::Exits(dice.within(300, 1500)),
        1 => r.ill = Ill::Hangs,
        2 => r.ill = Ill::Fades(dice.within(3, 90) * 1000),
        3 => r.ill = Ill::Errors(dice.within(6, 50) * 100),
        4 => r.ill = Ill::Smoke,
        5 => r.package = Package::Late(dice.within(5, 240) * 1000),
        6 => r.package = Package::Never,
        7 => r.ill = Ill::Uncounted,
        _ => r.package = Package::Refused,
    }
    let program = match r.ill {
        Ill::Exits(_) | Ill::Hangs | Ill::Fades(_) => true,
        Ill::Nothing | Ill::Errors(_) | Ill::Smoke | Ill::Uncounted => false,
    };
    if program && dice.percent(35) {
        r.only_on = Some(dice.within(1, u64::from(workers)) as u32);
    }
    if n == 1 && r.package != Package::Here {
        r.package = Package::Late(20_000);
    }
    r
}

pub fn params(dice: &mut Dice, host: bool) -> RolloutParams {
    let strategy = dice
        .one(&[
            StrategyName::DIRECT,
            StrategyName::ROLLING,
            StrategyName::ROLLING,
            StrategyName::CANARY,
            StrategyName::BLUE_GREEN,
        ])
        .clone();
    let max_surge = if host { dice.within(0, 1) as u32 } else { dice.within(0, 2) as u32 };
    let least = u32::from(max_surge == 0 || host);
    let steps: &[&[u32]] = &[&[10, 25, 50, 100], &[50, 100], &[100], &[1, 100], &[30, 60]];
    let strategy = if dice.percent(85) { Some(strategy) } else { None };
    let steps = dice.one(steps).iter().map(|p| BasisPoints::percent(*p)).collect();
    let bake = Period::seconds(dice.within(2, 20));
    RolloutParams {
        strategy,
        steps,
        bake,
        min_requests: dice.within(10, 60),
        warm_up: Period::seconds(dice.within(0, 4)),
        smoke: dice.percent(50).then(|| "/smoke".into()),
        monitor: Period::seconds(dice.within(1, 10)),
        grace: *dice.one(&[Period(0), Period::seconds(15), Period::minutes(2), Period::minutes(20)]),
        deadline: *dice.one(&[Period::seconds(20), Period::seconds(45), Period::minutes(2), Period::minutes(10)]),
        max_error_rate: Ceiling((!dice.percent(10)).then(|| BasisPoints::percent(5))),
        on_no_data: *dice.one(&[None, None, Some(OnNoData::Hold), Some(OnNoData::Pass), Some(OnNoData::Fail)]),
        parallelism: Portion::count(dice.within(1, 4) as u32),
        delay: *dice.one(&[Period(0), Period(0), Period::seconds(1), Period::seconds(8)]),
        max_surge: Portion::count(max_surge),
        max_unavailable: Portion::count((dice.within(0, 2) as u32).max(least)),
        failure_action: *dice.one(&[
            FailureAction::Rollback,
            FailureAction::Rollback,
            FailureAction::Pause,
            FailureAction::Continue,
        ]),
        max_health_failures: dice.within(1, 3) as u32,
        health_timeout: None,
        auto_promote: !bake.0.is_multiple_of(7_000),
    }
}

fn start(dice: &mut Dice, d: usize, release: usize, replace: bool, shape: &Shape) -> Act {
    let mut p = params(dice, shape.deployments[d].host);
    for _ in 0..4 {
        if fits(&p, shape, d) || dice.percent(20) {
            break;
        }
        p = params(dice, shape.deployments[d].host);
    }
    Act::Start { d, release, params: Box::new(p), replace }
}

/// Whether the law will take it: most stories are about what goes on after that.
fn fits(p: &RolloutParams, shape: &Shape, d: usize) -> bool {
    let (laid, room) = (&shape.deployments[d], shape.pool() - shape.per_worker());
    match p.strategy.as_ref().map(StrategyName::as_str) {
        Some("rolling") => laid.host || p.max_surge.is_none() || room > 0,
        Some("blue-green") => !laid.host && room >= laid.per_worker,
        _ => laid.host || room >= laid.per_worker,
    }
}

fn verb(dice: &mut Dice, d: usize) -> Act {
    match dice.weighted(&[3, 3, 3, 3, 3, 3, 8]) {
        0 => Act::Pause(d),
        1 => Act::Resume(d),
        2 => Act::Abort { d, as_is: false },
        3 => Act::Abort { d, as_is: true },
        4 => Act::Promote { d, full: false },
        5 => Act::Promote { d, full: true },
        _ => Act::Rollback(d),
    }
}

fn fault(dice: &mut Dice, shape: &Shape, release: usize) -> Act {
    let worker = dice.within(1, u64::from(shape.workers)) as u32;
    match dice.weighted(&[4, 3, 6, 2, 4, 3, 1, 4, 2, 2, 1, 1, 1]) {
        0 => Act::Lose(worker),
        1 => Act::Replace(worker),
        2 => Act::Away { worker, ms: away(dice, shape), reboots: false },
        3 => Act::Away { worker, ms: away(dice, shape), reboots: true },
        4 => Act::Kill(dice.next()),
        5 => Act::Mute { node: dice.within(1, 3), ms: Some(dice.within(1, 90) * 1000), restarts: dice.percent(50) },
        6 => Act::Mute { node: dice.within(1, 3), ms: None, restarts: false },
        7 => Act::LeaderDies { after: dice.within(0, 12), outage: dice.within(100, 4000) },
        8 => Act::LoseProposals(dice.within(0, 1)),
        9 => Act::Mend(release),
        12 => Act::AllAway { ms: away(dice, shape), reboots: dice.percent(50) },
        10 => Act::Respec(dice.within(0, shape.deployments.len() as u64 - 1) as usize),
        _ => Act::PackageGone(if dice.percent(70) { 0 } else { release }),
    }
}

/// A blip, a silence that is noticed, one of about the time after which it is lost for good, or one far beyond.
fn away(dice: &mut Dice, shape: &Shape) -> u64 {
    let good = shape.deployments[0].lost_for_good;
    match dice.weighted(&[2, 5, 3, 2]) {
        0 => dice.within(1000, 9000),
        1 => dice.within(10_000, 40_000),
        2 => dice.within(good.saturating_sub(5000), good + 15_000),
        _ => good + dice.within(20_000, 120_000),
    }
}
