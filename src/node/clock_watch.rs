//! Reports jumps of this machine's wall clock, in the log and in `cluster status`. No decision depends on wall clocks,
//! but people read them in events and history.
//!
//! Not here: cluster time (`raft`), and what the machine's clock should be.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::start::Parts;
use crate::{
    clock::{Clock, Mono},
    model::Period,
};

/// Time between looks.
const LOOK: Duration = Duration::from_secs(1);
/// Smaller steps are the work of a time service; a look that comes late measures both clocks late.
const JUMP_MS: i128 = 2_000;
/// How long `cluster status` shows a jump.
const SAID_MS: u64 = 3_600_000;
/// How far the leader's clock may be ahead without a warning.
const BEHIND_MS: u64 = 5_000;

/// The newest jump.
#[derive(Debug, Default)]
pub(super) struct Jumped(Mutex<Option<(i128, Mono)>>);

impl Jumped {
    fn note(&self, by: i128, now: Mono) {
        *self.0.lock() = Some((by, now));
    }

    /// A jump within the last hour, in words.
    pub(super) fn lately(&self, now: Mono) -> Option<String> {
        let (by, at) = (*self.0.lock())?;
        let ago = now.since(at);
        (ago < SAID_MS).then(|| format!("{}, {} ago", jumped(by), Period(ago / 1000 * 1000)))
    }
}

/// How far this machine's clock is behind the one that stamped the newest entry, in words.
pub(super) fn behind(newest_ms: u64, here_ms: u64) -> Option<String> {
    let by = newest_ms.saturating_sub(here_ms);
    (by > BEHIND_MS).then(|| {
        format!(
            "this machine's clock is {} behind the time of the newest entry, which the leader's clock gave: set the nodes' clocks",
            Period(by / 1000 * 1000)
        )
    })
}

fn jumped(by: i128) -> String {
    let length = Period(u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX) / 1000 * 1000);
    let way = if by < 0 { "back" } else { "forward" };
    format!("this machine's clock jumped {way} by {length}, and the times of events with it")
}

/// Compares the wall clock with the monotonic one.
struct Compared {
    offset: i128,
}

impl Compared {
    fn new(wall: u64, steady: u64) -> Self {
        Self { offset: i128::from(wall) - i128::from(steady) }
    }

    /// By how much the wall clock has jumped since the last look.
    fn look(&mut self, wall: u64, steady: u64) -> Option<i128> {
        let offset = i128::from(wall) - i128::from(steady);
        let by = offset - std::mem::replace(&mut self.offset, offset);
        (by.abs() >= JUMP_MS).then_some(by)
    }
}

/// Looks for as long as the node runs.
pub(super) async fn run(parts: Arc<Parts>) {
    let read = |clock: &Clock| (clock.wall_ms(), clock.boot());
    let (wall, steady) = read(&parts.clock);
    let mut compared = Compared::new(wall, steady);
    loop {
        tokio::time::sleep(LOOK).await;
        let (wall, steady) = read(&parts.clock);
        if let Some(by) = compared.look(wall, steady) {
            tracing::warn!("{}", jumped(by));
            parts.jumped.note(by, parts.clock.mono());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_noticed_and_one_that_is_slewed_is_not() {
        let mut compared = Compared::new(1_000_000, 0);
        assert_eq!(compared.look(1_001_000, 1_000), None);
        assert_eq!(compared.look(1_003_500, 2_000), None, "a step of a time service");
        assert_eq!(compared.look(4_604_500, 3_000), Some(3_600_000));
        assert_eq!(compared.look(4_605_500, 4_000), None, "said once");
        assert_eq!(compared.look(1_005_500, 5_000), Some(-3_601_000));
        // A machine that slept: both go on.
        assert_eq!(compared.look(9_005_500, 8_005_000), None);
    }

    #[test]
    fn a_jump_is_said_for_an_hour_and_a_clock_that_is_behind_as_long_as_it_is() {
        let seen = Jumped::default();
        assert_eq!(seen.lately(Mono(5)), None);
        seen.note(-3_601_000, Mono(1_000));
        let said = seen.lately(Mono(61_000)).unwrap();
        assert!(said.contains("jumped back by 1h1s") && said.ends_with("1m ago"), "{said}");
        assert_eq!(seen.lately(Mono(1_000 + SAID_MS)), None);
        assert!(behind(10_000_000, 6_399_000).unwrap().contains("1h1s behind"));
        assert_eq!(behind(10_000, 9_000).or(behind(1, 10_000)), None);
    }
}
