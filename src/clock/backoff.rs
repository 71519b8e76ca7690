//! Pauses between tries: each twice as long as the one before, up to a longest one.
//!
//! Invariant: a pause is spread over half of its length, so that many who lost the same thing do not all come back at
//! once. Not here: how often something is tried, and what ends the tries.

use std::time::Duration;

/// The pauses of one row of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Begins with `first` and never exceeds `most` by more than a quarter.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The pause after this failure: between three and five quarters of its nominal length.
    pub fn pause(&mut self) -> Duration {
        let nominal = self.after(self.failures);
        self.failures = self.failures.saturating_add(1);
        nominal.mul_f64(rand::random_range(0.75..1.25))
    }

    /// The nominal pause after so many earlier failures, for who counts them where they survive a restart.
    pub fn after(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.most)
    }

    /// A try went well: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, most);
        let nominal = [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis);
        for (n, nominal) in nominal.into_iter().enumerate() {
            assert_eq!(backoff.after(n as u32), nominal);
            let pause = backoff.pause();
            assert!(pause >= nominal.mul_f64(0.75) && pause <= nominal.mul_f64(1.25), "{n}: {pause:?}");
        }
        assert_eq!(backoff.after(u32::MAX), most);
        backoff.reset();
        assert!(backoff.pause() <= first.mul_f64(1.25));
    }
}
