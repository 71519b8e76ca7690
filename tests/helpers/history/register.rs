//! What one deployment's spec is to its writers: a register with a revision that each change raises.

use std::collections::HashMap;

use super::{Call, Model};

/// The value of a write that nobody saw; no client writes it.
const UNSEEN: u64 = u64::MAX;

pub struct Register;

/// Revision (0: does not exist) and value.
pub type Cell = (u64, u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    Read,
    /// Writes, if the revision is still this one.
    Write {
        expected: Option<u64>,
        value: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Read(Cell),
    Written,
    /// Another revision than the expected one was there.
    Stale,
}

impl Model for Register {
    type State = Cell;
    type Op = Op;
    type Out = Out;

    fn step(state: &Cell, op: &Op, out: Option<&Out>) -> Option<Cell> {
        match op {
            Op::Read => match out {
                None => Some(*state),
                Some(Out::Read(seen)) => (seen == state).then_some(*state),
                Some(Out::Written | Out::Stale) => None,
            },
            Op::Write { expected, value } => {
                let fits = expected.is_none_or(|e| e == state.0);
                // Writing what is there changes nothing.
                let same = state.0 > 0 && state.1 == *value && *value != UNSEEN;
                let after = (if same { state.0 } else { state.0 + 1 }, *value);
                match out {
                    None => Some(if fits { after } else { *state }),
                    Some(Out::Written) => fits.then_some(after),
                    Some(Out::Stale) => (!fits).then_some(*state),
                    Some(Out::Read(_)) => None,
                }
            }
        }
    }

    fn too_late(state: &Cell, op: &Op, out: &Out) -> bool {
        // Revisions never fall, and no value changes without one.
        match (op, out) {
            (Op::Read, Out::Read(seen)) => seen.0 < state.0 || (seen.0 == state.0 && seen.1 != state.1),
            (Op::Write { expected: Some(expected), .. }, Out::Written) => *expected < state.0,
            (Op::Read | Op::Write { .. }, Out::Read(_) | Out::Written | Out::Stale) => false,
        }
    }

    fn narrowed(calls: &[Call<Op, Out>]) -> Vec<Op> {
        let mut writers: HashMap<u64, usize> = HashMap::new();
        let mut seen_at: HashMap<u64, u64> = HashMap::new();
        for call in calls {
            match (&call.op, &call.returned) {
                (Op::Write { value, .. }, _) => *writers.entry(*value).or_default() += 1,
                (Op::Read, Some((_, Out::Read((revision, value))))) if *revision > 0 => {
                    let first = seen_at.entry(*value).or_insert(*revision);
                    *first = (*first).min(*revision);
                }
                (Op::Read, _) => {}
            }
        }
        let one = |call: &Call<Op, Out>| match (&call.op, &call.returned) {
            (Op::Read, _) | (Op::Write { .. }, Some((_, Out::Read(_) | Out::Stale))) => call.op.clone(),
            (Op::Write { value, .. }, _) if writers[value] > 1 => call.op.clone(),
            (Op::Write { expected, value }, returned) => match (seen_at.get(value), returned) {
                // Only this one wrote it: it took effect, and made just that revision.
                (Some(revision), _) => Op::Write { expected: expected.or(Some(revision - 1)), value: *value },
                (None, _) => Op::Write { expected: *expected, value: UNSEEN },
            },
        };
        calls.iter().map(one).collect()
    }

    fn is_spent_once_done(op: &Op) -> bool {
        matches!(op, Op::Write { expected: Some(_), .. })
    }

    fn told(call: &Call<Op, Out>, narrowed: &Op) -> String {
        match (&call.op, narrowed) {
            (Op::Write { expected: None, .. }, Op::Write { expected: Some(before), .. }) => {
                format!("{call:?}, whose value was read at revision {}", before + 1)
            }
            (Op::Read | Op::Write { .. }, _) => format!("{call:?}"),
        }
    }
}
