//! How often an instance that ends is started again before it has failed.
//!
//! Not here: what an end is, and the pause before a start (`instance`).

use crate::{clock::Mono, supervise::Lately};

/// Restarts within [`RESTART_WINDOW_MS`] after which an instance has failed.
pub(super) const MAX_RESTARTS: usize = 5;
pub(super) const RESTART_WINDOW_MS: u64 = 600_000;

/// Notes that it ended; whether it may be started again.
pub(super) fn may_restart(ends: &mut Lately, now: Mono) -> bool {
    ends.note(now) <= MAX_RESTARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_restarts_within_ten_minutes_are_allowed_and_no_sixth() {
        let mut ends = Lately::within(RESTART_WINDOW_MS);
        let minutes = [0, 1, 2, 3, 10, 10, 11, 12].map(|minute| minute * 60_000);
        let may = minutes.map(|at| may_restart(&mut ends, Mono(at)));
        // The first is ten minutes old at the sixth and still counts; one that was refused counts too.
        assert_eq!(may, [true, true, true, true, true, false, false, false]);
        assert!(may_restart(&mut ends, Mono(30 * 60_000)), "after a quiet time it may again");
    }
}
