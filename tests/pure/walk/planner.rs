//! Commands of the engine at random: rightly timed or not, of what is there or not.

use super::*;
use slipway::state::Role;

/// Engine commands with the right revision and otherwise at random.
pub fn at_random(s: &State, deployment: DeploymentId, kind: u32, a: u32, b: u32) -> Command {
    let rollout = some_rollout(s, &deployment, 1);
    let r = s.rollouts.get(&rollout);
    let seen = r.map_or(0, |r| r.meta.revision).wrapping_sub(u64::from(b.is_multiple_of(29)));
    let step = r.map_or(0, |r| r.cursor) + u32::from(b.is_multiple_of(31));
    let attempt = r.and_then(|r| r.steps.get(r.cursor as usize)).map_or(1, |row| row.attempt + 1);
    let batch = r.and_then(|r| r.steps.get(r.cursor as usize)).and_then(|row| row.batch.clone());
    // Now and then it names what is not its own.
    let its = |i: &&slipway::state::Instance| i.life.is_live() && (i.deployment == deployment || b.is_multiple_of(23));
    let mine: Vec<InstanceId> = s.instances.values().filter(its).map(|i| i.id).collect();
    let one = mine.get(a as usize % mine.len().max(1)).copied();
    let some: Vec<InstanceId> = one.into_iter().collect();
    let reason = Reason::Deadline;
    let d = s.deployments.get(&deployment);
    match kind % 20 {
        0 => Command::StepStarted(StepStarted { at: StepRef { rollout, seen, step }, attempt }),
        1 => Command::StepEnded(StepEnded {
            at: StepRef { rollout, seen, step },
            evidence: evidence(s, r, Verdict::NotWorse, a),
        }),
        2 => Command::BatchStarted(BatchStarted {
            at: StepRef { rollout, seen, step },
            batch: batch.map_or(1, |b| b.n + 1),
            add: vec![(worker(1 + a % 5), 1 + b % 3)],
            replace: if b.is_multiple_of(2) { some } else { Vec::new() },
            in_place: b.is_multiple_of(3),
        }),
        3 => Command::BatchPassed(BatchPassed {
            at: StepRef { rollout, seen, step },
            batch: batch.map_or(1, |b| b.n),
            drain: some,
            weights: (b.is_multiple_of(2)).then(|| weights(a)),
        }),
        4 => Command::RouteSet(RouteSet { at: StepRef { rollout, seen, step }, weights: weights(a) }),
        5 => Command::Switched(Switched { at: StepRef { rollout, seen, step } }),
        6 => {
            let index = s.instances.values().filter_map(|i| i.drain.map(|d| d.index)).max().unwrap_or(s.applied.index);
            Command::DrainSettled(DrainSettled {
                deployment,
                index,
                confirmed: s.nodes.keys().map(|n| (*n, s.applied.index)).collect(),
                silent: Vec::new(),
                unready: Vec::new(),
                ttl_ms: u64::from(b % 2000),
            })
        }
        7 => Command::StopPermitted(StopPermitted {
            deployment,
            instances: s
                .instances
                .values()
                .filter(|i| i.life == Life::Draining && i.deployment == d.map_or_else(shop, |d| d.id.clone()))
                .map(|i| i.id)
                .take(2)
                .collect(),
        }),
        8 if b.is_multiple_of(16) => Command::RollbackBegan(RollbackBegan { rollout, seen, reason, evidence: None }),
        9 if b.is_multiple_of(16) => Command::RolloutPaused(RolloutPaused {
            rollout,
            seen,
            reason,
            evidence: Some(evidence(s, r, Verdict::Worse, a)),
        }),
        10 => Command::PromotionBegan(PromotionBegan { rollout, seen }),
        11 => Command::RolloutFinished(RolloutFinished {
            rollout,
            seen,
            status: [
                RolloutStatus::Completed,
                RolloutStatus::RolledBack,
                RolloutStatus::Failed,
                RolloutStatus::Aborted,
            ][a as usize % 4],
            reason: Some(reason),
        }),
        12 | 13 => Command::ArmAdjusted(ArmAdjusted {
            deployment,
            seen: d.map_or(0, |d| d.meta.revision),
            add: if a.is_multiple_of(3) { Vec::new() } else { vec![(Role::Stable, worker(1 + a % 4), 1)] },
            drain: if b.is_multiple_of(3) { some } else { Vec::new() },
            desired: d.map_or(0, |d| d.desired),
            drop: if b.is_multiple_of(5) { vec![Role::Previous] } else { Vec::new() },
        }),
        14..=16 => settle(s, b),
        17 => Command::StepsCompiled(StepsCompiled {
            rollout,
            seen,
            phase: if a.is_multiple_of(2) { RolloutPhase::Forward } else { RolloutPhase::Undo },
            desired: 1 + a % 8,
            order: vec![worker(1)],
            steps: Vec::new(),
            form: RouteForm::default(),
            budget: b.is_multiple_of(2).then_some(Budget { surge: b % 2, unavailable: b % 2 }),
        }),
        18 => {
            let known = r.map(|r| r.order.as_slice()).unwrap_or_default();
            let ready = |w: &WorkerName| s.workers.get(w).is_some_and(|w| w.presence == Presence::Ready);
            let workers = (1..=4).map(worker).filter(|w| !known.contains(w) && ready(w)).collect();
            Command::OrderExtended(OrderExtended { rollout, seen, workers })
        }
        _ => Command::Tick(Tick {}),
    }
}

/// Both deployments in one switch, now and then when each has a version beside its stable one and no more than one is
/// busy.
pub fn switch_of_two(s: &State, b: u32) -> Option<Command> {
    let has = |d| s.deployments.get(&d).is_some_and(|d| d.arms.get(Role::Previous).is_some());
    let live = [shop(), cart()].iter().filter(|d| s.live_rollout(d).is_some()).count();
    let wanted = has(shop()) && has(cart()) && live < 2 && b.is_multiple_of(2);
    wanted.then(|| ask(vec![shop(), cart()], SwitchTo::Previous, b / 2))
}

fn ask(deployments: Vec<DeploymentId>, to: SwitchTo, b: u32) -> Command {
    Command::SwitchAsked(SwitchAsked {
        ask: SwitchAsk {
            deployments,
            to,
            wait: [WaitLevel::Quorum, WaitLevel::Fenced, WaitLevel::Caches][b as usize % 3],
            unfenced: if b.is_multiple_of(5) { Unfenced::TakeBack } else { Unfenced::Proceed },
            within: Period::seconds(u64::from(b % 4)),
        },
    })
}

/// What concerns switches: asked for, moved and ended at the right time or not.
pub fn fenced(s: &State, a: u32, b: u32) -> Command {
    let open = s.fences.open().next();
    let (switch, seen) = open.map_or((1, 1), |x| (x.id, x.revision));
    let served = s.nodes.keys().map(|n| (*n, if b.is_multiple_of(3) { 0 } else { s.applied.index })).collect();
    if open.is_some_and(|x| x.moved.is_none()) && b.is_multiple_of(2) {
        return Command::SwitchMoved(SwitchMoved { switch, seen, served });
    }
    match a % 15 {
        12 => {
            let open = s.backs.values().find(|b| b.end.is_none());
            let how = if b.is_multiple_of(2) { ServerEnd::Served(s.now) } else { ServerEnd::Expired };
            let servers = s.nodes.keys().map(|n| (*n, String::new(), how)).collect();
            let fenced_at = b.is_multiple_of(3).then_some(s.now);
            let end = SwitchEnd { at: s.now, switched: true, fenced_at, servers, clear_at: None, note: String::new() };
            let (rollout, index) = open.map_or((RolloutId(1), 1), |b| (b.rollout, b.index));
            Command::TrafficBackSettled(TrafficBackSettled { rollout, index, end })
        }
        13 => Command::CookieAsked(CookieAsked {}),
        14 => Command::CookieRotated(CookieRotated { secret: Secret::new([b as u8; 16]), seen: s.cookies.index }),
        0..=3 => {
            let which =
                [vec![shop()], vec![cart()], vec![shop(), cart()], vec![cart(), shop()]][b as usize / 7 % 4].clone();
            let to = if b.is_multiple_of(2) { SwitchTo::Previous } else { SwitchTo::Version(version(1 + b % 5)) };
            ask(which, to, b / 2)
        }
        4 => Command::SwitchMoved(SwitchMoved { switch, seen, served }),
        5 | 6 => {
            let switched = open.is_some_and(|x| x.moved.is_some()) != b.is_multiple_of(7);
            let how = if b.is_multiple_of(2) { ServerEnd::Served(s.now) } else { ServerEnd::Expired };
            let servers = s.nodes.keys().map(|n| (*n, String::new(), how)).collect();
            let fenced_at = (switched && b.is_multiple_of(3)).then_some(s.now);
            let end = SwitchEnd { at: s.now, switched, fenced_at, servers, clear_at: None, note: String::new() };
            Command::SwitchEnded(SwitchEnded { switch, seen, end })
        }
        7 => Command::ArmingConfirmed(ArmingConfirmed { served }),
        8 => Command::LeasesSettled(LeasesSettled { seen: s.fences.revision }),
        9 => Command::LeaseSet(LeaseSet {
            mode: Some(if b.is_multiple_of(2) { LeaseMode::Always } else { LeaseMode::Armed }),
            terms: Some(Terms { duration: Period(500 + u64::from(b % 4000)), ..Terms::default() }),
        }),
        10 => Command::ExpirySet(ExpirySet {
            deployment: of(b / 2),
            on_expiry: b.is_multiple_of(2).then_some(OnExpiry::Fail),
        }),
        _ => {
            let last = s.fences.switches.keys().next_back().copied().unwrap_or(1);
            Command::SwitchAsked(SwitchAsked {
                ask: SwitchAsk {
                    deployments: Vec::new(),
                    to: SwitchTo::Back(last),
                    wait: WaitLevel::Fenced,
                    unfenced: Unfenced::Proceed,
                    within: Period::seconds(1),
                },
            })
        }
    }
}
