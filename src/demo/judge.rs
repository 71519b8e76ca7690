//! What the readings say of a version's weights over time. Pure, so that it can be tested by itself.

use super::metrics::Reading;

/// A time in which all nodes agreed on a version's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The weight, basis points.
    pub weight: u32,
    /// First reading with it.
    pub from: u64,
    /// First reading without it, or the last reading of all.
    pub to: u64,
}

/// How long each weight of a version held, in order. Readings in which nodes differ, or nobody answered, say nothing: a
/// weight ends at the first reading in which all agree on another.
pub fn weights_held(readings: &[Reading], version: &str) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    for reading in readings {
        let Some(weight) = reading.weight(version) else { continue };
        match held.last_mut() {
            Some(last) if last.weight == weight => last.to = reading.at,
            Some(last) => {
                last.to = reading.at;
                held.push(Held { weight, from: reading.at, to: reading.at });
            }
            None => held.push(Held { weight, from: reading.at, to: reading.at }),
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::metrics::NodeReading;

    fn reading(at: u64, weights: &[u32]) -> Reading {
        let node = |w: &u32| NodeReading { weights: [("2".to_string(), *w)].into(), ..NodeReading::default() };
        Reading { at, nodes: (1..).zip(weights.iter().map(node)).collect() }
    }

    #[test]
    fn weights_hold_over_gaps_and_end_at_the_change() {
        let readings = [
            reading(0, &[0, 0]),
            reading(100, &[1000, 0]),
            reading(200, &[1000, 1000]),
            reading(300, &[]),
            reading(400, &[1000]),
            reading(500, &[2500, 2500]),
            reading(600, &[2500, 2500]),
        ];
        let held = weights_held(&readings, "2");
        assert_eq!(held.iter().map(|h| h.weight).collect::<Vec<_>>(), [0, 1000, 2500]);
        assert_eq!((held[1].from, held[1].to), (200, 500));
        assert_eq!((held[2].from, held[2].to), (500, 600));
    }
}
