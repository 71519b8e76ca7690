//! Judges recorded histories of calls and returns: is there one order of the operations that explains every answer, in
//! which each takes effect between its call and its return? And a register's model for `register`: would one machine
//! that does one thing at a time have answered the same?
//!
//! `check` is the search of Wing and Gong with Lowe's cache of (operations done, state), written as a loop and bounded
//! by time and by the size of that cache. An operation without a return has an unknown outcome: it may take effect at
//! any time after its call, or be the last and seen by nobody. Many of those would make the search grow beyond bounds,
//! so each is tried only where it can matter: after everything that has returned, when that alone does not explain the
//! next answer; where it changes the state; and of several that do the same the one that was called first. None of this
//! loses an order: who exchanges two that do the same, or leaves out one that did nothing, has another order of the
//! same history. Reads with an unknown outcome say nothing and are not recorded.

pub mod register;

pub use register::{Op, Out, Register};

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Most configurations that one search remembers, at some hundred bytes each.
const MOST: usize = 8_000_000;

/// What a thing of this kind does, one operation at a time.
pub trait Model: Sized {
    type State: Clone + Eq + Hash + Default;
    type Op: Clone + Eq + Hash + Debug;
    type Out: Clone + Debug;
    /// The state after `op`, if `out` is what it may answer there; `None` is an outcome nobody knows.
    fn step(state: &Self::State, op: &Self::Op, out: Option<&Self::Out>) -> Option<Self::State>;
    /// Whether `op` can answer `out` neither in this state nor in any that comes after it.
    fn too_late(state: &Self::State, op: &Self::Op, out: &Self::Out) -> bool;
    /// What each operation comes to, by what the whole history tells of it: those that could have been in one place
    /// only are tied to it, and of those with an unknown outcome the ones that nobody could tell apart are equal.
    fn narrowed(calls: &[Call<Self::Op, Self::Out>]) -> Vec<Self::Op>;
    /// Whether `op`, once it has changed something, can change nothing any more: then nobody needs to remember that it
    /// was done.
    fn is_spent_once_done(op: &Self::Op) -> bool;
    /// An operation for people, and what was found out of it.
    fn told(call: &Call<Self::Op, Self::Out>, narrowed: &Self::Op) -> String;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Verdict {
    Linearizable,
    /// All orders were tried, and none explains the history.
    NotLinearizable,
    /// The search was not over within its limits: nothing is known.
    OutOfTime,
}

/// The judgement of one history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub operations: usize,
    /// Of these, with an unknown outcome.
    pub unknown: usize,
    /// How many operations the longest order found takes in.
    pub placed: usize,
    /// Configurations that were looked at.
    pub tried: usize,
    /// The operation that the longest order could not take in; not when there is an order of all.
    pub stuck_at: Option<String>,
}

/// Calls and returns of what has returned, in order of time, as a doubly linked list in a vector; 0 is its head.
struct Events {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The operation of each event, and whether the event is its return.
    what: Vec<(usize, bool)>,
    /// The return of each operation; 0: none.
    returns: Vec<usize>,
    /// Operations without a return by the time of their calls, each with the event that comes after its call.
    unknown: Vec<(usize, usize)>,
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
        let mut events = Self {
            next: Vec::new(),
            previous: Vec::new(),
            what: vec![(usize::MAX, false)],
            returns: vec![0; calls.len()],
            unknown: Vec::new(),
        };
        for (_, is_return, op) in order {
            let at = events.what.len();
            if calls[op].returned.is_none() {
                events.unknown.push((op, at));
                continue;
            }
            events.what.push((op, is_return));
            if is_return {
                events.returns[op] = at;
            }
        }
        let n = events.what.len();
        events.next = (1..=n).map(|i| i % n).collect();
        events.previous = (0..n).map(|i| (i + n - 1) % n).collect();
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

    /// Takes an operation that has returned out of the list.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        self.unlink(self.returns[self.what[call].0]);
    }

    /// Puts it back, in the opposite order.
    fn unlift(&mut self, call: usize) {
        self.relink(self.returns[self.what[call].0]);
        self.relink(call);
    }
}

/// For each operation of unknown outcome the one called before it that does the same, if there is one.
fn alike<O: Eq + Hash>(unknown: &[(usize, usize)], ops: &[O]) -> Vec<Option<usize>> {
    let mut last: HashMap<&O, usize> = HashMap::new();
    unknown.iter().map(|(op, _)| last.insert(&ops[*op], *op)).collect()
}

/// Configurations that lead nowhere. A set of operations that have returned is remembered as the sum of their random
/// numbers: of ten million sets two agree once in 10^24 searches.
struct Seen<S> {
    marks: Vec<u128>,
    used: HashMap<(u128, S), Vec<Vec<u64>>>,
    len: usize,
}

impl<S: Eq + Hash> Seen<S> {
    fn new(operations: usize) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        Self { marks: (0..operations).map(|_| random.random()).collect(), used: HashMap::new(), len: 0 }
    }

    /// Whether it is worth a look: where the same was done, and no more of the unknown used up, all was tried that
    /// could be tried here.
    fn is_new(&mut self, sum: u128, state: S, used: &[u64]) -> bool {
        let known = self.used.entry((sum, state)).or_default();
        let fewer = |one: &Vec<u64>, other: &[u64]| one.iter().zip(other).all(|(a, b)| a & !b == 0);
        if known.iter().any(|one| fewer(one, used)) {
            return false;
        }
        known.push(used.to_vec());
        self.len += 1;
        true
    }
}

/// Where the search stands: at an event of the list, or at the `n`th operation of unknown outcome before the return at
/// `until`.
#[derive(Clone, Copy)]
enum At {
    Known(usize),
    Unknown { n: usize, until: usize },
}

/// Looks for an order that explains the history.
pub fn check<M: Model>(calls: &[Call<M::Op, M::Out>], limit: Duration) -> Judgement {
    let until = Instant::now() + limit;
    let ops = M::narrowed(calls);
    let forgets = |op: usize| calls[op].returned.is_none() && M::is_spent_once_done(&ops[op]);
    let mut events = Events::of(calls);
    // What can do something here only comes before what is good for later too.
    events.unknown.sort_by_key(|(op, _)| !forgets(*op));
    let alike = alike(&events.unknown, &ops);
    let mut open = calls.len() - events.unknown.len();
    let mut state = M::State::default();
    let mut seen: Seen<M::State> = Seen::new(calls.len());
    // What was done: of what has returned, and of the others.
    let (mut sum, mut used) = (0_u128, vec![0_u64; events.unknown.len().div_ceil(64)]);
    let mut done = vec![false; calls.len()];
    let mut stack: Vec<(At, M::State)> = Vec::new();
    let (mut longest, mut stuck, mut steps) = (0, None, 0_u64);
    let mut at = At::Known(events.next[0]);
    let verdict = loop {
        if open == 0 {
            break Verdict::Linearizable;
        }
        steps += 1;
        if seen.len >= MOST || (steps.is_multiple_of(1024) && Instant::now() > until) {
            break Verdict::OutOfTime;
        }
        // What is tried here, and where it goes on if that is not taken.
        let (op, onwards) = match at {
            At::Known(event) => match events.what[event] {
                (op, false) => (op, At::Known(events.next[event])),
                (op, true) => {
                    if stuck.is_none() || stack.len() > longest {
                        (longest, stuck) = (stack.len(), Some(op));
                    }
                    // An operation that has returned and has no place yet: one of unknown outcome may have come before
                    // it.
                    let late = calls[op].returned.as_ref().is_some_and(|(_, out)| M::too_late(&state, &ops[op], out));
                    at = At::Unknown { n: if late { events.unknown.len() } else { 0 }, until: event };
                    continue;
                }
            },
            At::Unknown { n, until } => match events.unknown.get(n) {
                Some((op, after)) => {
                    let onwards = At::Unknown { n: n + 1, until };
                    if *after > until || done[*op] || alike[n].is_some_and(|first| !done[first]) {
                        at = onwards;
                        continue;
                    }
                    (*op, onwards)
                }
                None => {
                    // Something before it was put in the wrong place.
                    let Some((before, was)) = stack.pop() else { break Verdict::NotLinearizable };
                    state = was;
                    at = match before {
                        At::Known(event) => {
                            let op = events.what[event].0;
                            (done[op], open, sum) = (false, open + 1, sum.wrapping_sub(seen.marks[op]));
                            events.unlift(event);
                            At::Known(events.next[event])
                        }
                        At::Unknown { n, until } => {
                            done[events.unknown[n].0] = false;
                            used[n / 64] &= !(1 << (n % 64));
                            At::Unknown { n: n + 1, until }
                        }
                    };
                    continue;
                }
            },
        };
        let out = calls[op].returned.as_ref().map(|(_, out)| out);
        let Some(next) = M::step(&state, &ops[op], out).filter(|next| out.is_some() || *next != state) else {
            at = onwards;
            continue;
        };
        let before = sum;
        match at {
            At::Known(_) => sum = sum.wrapping_add(seen.marks[op]),
            At::Unknown { n, .. } if !forgets(op) => used[n / 64] |= 1 << (n % 64),
            At::Unknown { .. } => {}
        }
        if !seen.is_new(sum, next.clone(), &used) {
            if let At::Unknown { n, .. } = at {
                used[n / 64] &= !(1 << (n % 64));
            }
            (sum, at) = (before, onwards);
            continue;
        }
        stack.push((at, std::mem::replace(&mut state, next)));
        done[op] = true;
        if let At::Known(event) = at {
            events.lift(event);
            open -= 1;
        }
        at = At::Known(events.next[0]);
    };
    let ended = verdict == Verdict::Linearizable;
    Judgement {
        verdict,
        operations: calls.len(),
        unknown: events.unknown.len(),
        placed: if ended { stack.len() } else { longest },
        tried: seen.len,
        stuck_at: stuck.filter(|_| !ended).map(|op| M::told(&calls[op], &ops[op])),
    }
}
