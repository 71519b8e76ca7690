//! Judges recorded histories: is there an order of the operations, each between its call and its return, in which a register that
//! does one thing at a time would have answered the same?
//!
//! `check` is the search of Wing and Gong with Lowe's cache of (operations done, state), written as a loop and bounded by time. An
//! operation without a return has an unknown outcome: it may take effect at any time after its call, or be the last and seen by
//! nobody. Reads with an unknown outcome say nothing and are not recorded.

use std::{
    collections::HashSet,
    fmt::Debug,
    hash::Hash,
    time::{Duration, Instant},
};

/// What a thing of this kind does, one operation at a time.
pub trait Model {
    type State: Clone + Eq + Hash + Default;
    type Op: Clone + Debug;
    type Out: Clone + Debug;
    /// The state after `op`, if `out` is what it may answer there; `None` is an outcome nobody knows.
    fn step(state: &Self::State, op: &Self::Op, out: Option<&Self::Out>) -> Option<Self::State>;
}

/// One operation; times are of one clock, in any unit.
#[derive(Debug, Clone)]
pub struct Call<O, R> {
    #[allow(dead_code, reason = "names the operation in a judgement")]
    pub client: usize,
    pub op: O,
    pub called: u64,
    /// When and what it answered, if that is known.
    pub returned: Option<(u64, R)>,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order exists; the operation that the longest order found could not take in.
    Stuck(String),
    /// The search was not over in time.
    TimedOut,
}

/// Calls and returns in order of time, as a doubly linked list in a vector; 0 is its head.
struct Events {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The operation of each event, and whether the event is its return.
    what: Vec<(usize, bool)>,
    /// The return of each operation; 0: none.
    returns: Vec<usize>,
}

impl Events {
    fn of<O, R>(calls: &[Call<O, R>]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (i, c) in calls.iter().enumerate() {
            // At one time calls come before returns, so that such operations count as concurrent.
            order.push((c.called, false, i));
            order.extend(c.returned.as_ref().map(|(at, _)| (*at, true, i)));
        }
        order.sort_unstable();
        let n = order.len() + 1;
        let mut events = Self {
            next: (1..=n).map(|i| i % n).collect(),
            previous: (0..n).map(|i| (i + n - 1) % n).collect(),
            what: vec![(usize::MAX, false)],
            returns: vec![0; calls.len()],
        };
        for (at, (_, is_return, op)) in order.into_iter().enumerate() {
            events.what.push((op, is_return));
            if is_return {
                events.returns[op] = at + 1;
            }
        }
        events
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        self.previous[after] = at;
    }

    /// Takes an operation out of the list.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        let end = self.returns[self.what[call].0];
        if end != 0 {
            self.unlink(end);
        }
    }

    /// Puts it back, in the opposite order.
    fn unlift(&mut self, call: usize) {
        let end = self.returns[self.what[call].0];
        if end != 0 {
            self.relink(end);
        }
        self.relink(call);
    }
}

/// Looks for an order that explains the history.
pub fn check<M: Model>(calls: &[Call<M::Op, M::Out>], limit: Duration) -> Verdict {
    let until = Instant::now() + limit;
    let mut events = Events::of(calls);
    let mut open = calls.iter().filter(|c| c.returned.is_some()).count();
    let mut state = M::State::default();
    let mut done = vec![0u64; calls.len().div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut stack: Vec<(usize, M::State)> = Vec::new();
    let (mut longest, mut stuck, mut steps) = (0, usize::MAX, 0u64);
    let mut at = events.next[0];
    while open > 0 {
        steps += 1;
        if steps.is_multiple_of(1024) && Instant::now() > until {
            return Verdict::TimedOut;
        }
        let (op, is_return) = events.what[at];
        if at != 0 && !is_return {
            let call = &calls[op];
            let out = call.returned.as_ref().map(|(_, out)| out);
            if let Some(next) = M::step(&state, &call.op, out) {
                done[op / 64] |= 1 << (op % 64);
                if seen.insert((done.clone(), next.clone())) {
                    stack.push((at, std::mem::replace(&mut state, next)));
                    events.lift(at);
                    open -= usize::from(out.is_some());
                    at = events.next[0];
                    continue;
                }
                done[op / 64] &= !(1 << (op % 64));
            }
            at = events.next[at];
            continue;
        }
        // An operation that has returned and has no place yet: something before it was put in the wrong place.
        if stuck == usize::MAX || stack.len() > longest {
            (longest, stuck) = (stack.len(), op);
        }
        let Some((call, before)) = stack.pop() else {
            let name = calls.get(stuck).map_or_else(String::new, |c| format!("{c:?}"));
            return Verdict::Stuck(format!("after {longest} of {} operations: {name}", calls.len()));
        };
        let op = events.what[call].0;
        state = before;
        done[op / 64] &= !(1 << (op % 64));
        open += usize::from(calls[op].returned.is_some());
        events.unlift(call);
        at = events.next[call];
    }
    Verdict::Linearizable
}

/// What one deployment's spec is to its writers: a register with a revision that each change raises.
pub struct Register;

/// Revision (0: does not exist) and value.
pub type Cell = (u64, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
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
                let raised = if state.0 > 0 && state.1 == *value { state.0 } else { state.0 + 1 };
                let after = (raised, *value);
                match out {
                    None => Some(if fits { after } else { *state }),
                    Some(Out::Written) => fits.then_some(after),
                    Some(Out::Stale) => (!fits).then_some(*state),
                    Some(Out::Read(_)) => None,
                }
            }
        }
    }
}
