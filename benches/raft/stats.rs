//! Medians, and 95 % bootstrap intervals of ratios. The resampling is seeded, so the same figures give the same
//! interval.

const RESAMPLES: usize = 10_000;

/// A ratio and its interval.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub low: f64,
    pub mid: f64,
    pub high: f64,
}

/// The middle value; of an even number the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn interval(mid: f64, mut again: impl FnMut(&mut Random) -> f64) -> Ratio {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut all: Vec<f64> = (0..RESAMPLES).map(|_| again(&mut random)).collect();
    all.sort_by(f64::total_cmp);
    Ratio { low: all[RESAMPLES / 40], mid, high: all[RESAMPLES - RESAMPLES / 40 - 1] }
}

/// Geometric mean of the ratios round by round: what disturbs a round disturbs both sides of it.
pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
    let logs: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a / b).ln()).filter(|l| l.is_finite()).collect();
    if logs.is_empty() {
        return None;
    }
    let mean = |sum: f64| (sum / logs.len() as f64).exp();
    let again = |random: &mut Random| mean((0..logs.len()).map(|_| logs[random.below(logs.len())]).sum());
    Some(interval(mean(logs.iter().sum()), again))
}

/// Ratio of the medians of two independent samples.
pub fn of_medians(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let drawn = |from: &[f64], random: &mut Random| -> Vec<f64> {
        (0..from.len()).map(|_| from[random.below(from.len())]).collect()
    };
    let again = |random: &mut Random| median(&drawn(ours, random)) / median(&drawn(theirs, random));
    Some(interval(median(ours) / median(theirs), again))
}
