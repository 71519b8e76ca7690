//! The only reader of time: a monotonic clock, one that goes on in suspend, and a wall clock; real or driven by a test.
//!
//! Cluster time is not here: leaders stamp it from this module's monotonic clock (`raft`). Sleeping is tokio's.

mod backoff;

pub use backoff::Backoff;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Where time comes from. Cloning shares the source.
#[derive(Debug, Clone)]
pub struct Clock(ClockSource);

#[derive(Debug, Clone)]
enum ClockSource {
    Real { origin: Instant },
    Manual { monotonic_ms: Arc<AtomicU64>, wall_ms: Arc<AtomicU64> },
}

/// A point of a clock's monotonic time, in milliseconds since the clock was made. Only meaningful within one process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Milliseconds from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Clock {
    /// The machine's clocks.
    pub fn real() -> Self {
        Self(ClockSource::Real { origin: Instant::now() })
    }

    /// A clock that stands still until [`Clock::advance`].
    pub fn manual(wall_ms: u64) -> Self {
        Self(ClockSource::Manual { monotonic_ms: Arc::default(), wall_ms: Arc::new(AtomicU64::new(wall_ms)) })
    }

    /// Monotonic time.
    pub fn mono(&self) -> Mono {
        match &self.0 {
            ClockSource::Real { origin } => Mono(millis(origin.elapsed())),
            ClockSource::Manual { monotonic_ms, .. } => Mono(monotonic_ms.load(Ordering::SeqCst)),
        }
    }

    /// Monotonic time in microseconds, for measuring short spans; a manual clock gives whole milliseconds.
    pub fn micros(&self) -> u64 {
        match &self.0 {
            ClockSource::Real { origin } => u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX),
            ClockSource::Manual { monotonic_ms, .. } => monotonic_ms.load(Ordering::SeqCst).saturating_mul(1000),
        }
    }

    /// Milliseconds of a clock that goes on while the machine is suspended, for leases: a server that slept must not
    /// take its lease for a young one. Only meaningful within one process.
    pub fn boot(&self) -> u64 {
        match &self.0 {
            ClockSource::Real { .. } => boottime(),
            ClockSource::Manual { monotonic_ms, .. } => monotonic_ms.load(Ordering::SeqCst),
        }
    }

    /// Wall-clock milliseconds since the Unix epoch; for display only. Zero when the machine's clock stands before it.
    pub fn wall_ms(&self) -> u64 {
        match &self.0 {
            ClockSource::Real { .. } => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
            ClockSource::Manual { wall_ms, .. } => wall_ms.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock on; does nothing to a real one.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            ClockSource::Real { .. } => {}
            ClockSource::Manual { monotonic_ms, wall_ms } => {
                monotonic_ms.fetch_add(millis(by), Ordering::SeqCst);
                wall_ms.fetch_add(millis(by), Ordering::SeqCst);
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::real()
    }
}

fn boottime() -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame, which the call only writes.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut at) } != 0;
    // Linux has had it since 2.6.39; the end of time makes every lease one that is over.
    if failed {
        return u64::MAX;
    }
    let (seconds, nanos) = (u64::try_from(at.tv_sec).unwrap_or(0), u64::try_from(at.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(1000);
        let (before, other) = (clock.mono(), clock.clone());
        other.advance(Duration::from_millis(250));
        assert_eq!(clock.mono().since(before), 250);
        assert_eq!(clock.wall_ms(), 1250);
        assert_eq!(clock.boot(), 250);
        assert!(Clock::real().wall_ms() > 1_600_000_000_000);
        let real = Clock::real();
        let first = real.boot();
        assert!(first > 0 && real.boot() >= first);
    }
}
