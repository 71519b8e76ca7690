//! The serving lease, checked: every order of events of a small world with stateright, and long runs of a large one
//! from seeds.
//!
//! Three nodes, each of which may lead; clocks of different rates; messages that are late or never come; a change of
//! leader, also to the process that led before and was restarted; a restart of the server; one switch. The law is the
//! product's own code (`traffic::lease`); the world around it is here. What must never happen: a question that came
//! after the switch was called fenced is answered from before it. Each way to break the law is broken once and must be
//! found, as must clocks that differ by more than was promised.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use slipway::{
    model::Period,
    traffic::lease::{Book, Boot, Cover, Grant, Hold, Holder, Standing, Terms},
};
use stateright::{Checker, Model, Property};

/// The server whose answers are watched.
const N: usize = 2;
const NODES: usize = 3;
/// Entry of the switch; before it everything is at 0.
const SWITCH: u64 = 1;
/// Renewals that the server asks for at most.
const RENEWALS: u64 = 2;
/// Ticks of true time; a lease is three.
const HORIZON: u8 = 5;

/// The law, or one way to break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Law {
    Right,
    /// The book is written when the majority has answered.
    RecordsLate,
    /// A new leader presumes nothing.
    PresumesNothing,
    /// The answer to an earlier question counts for the newest.
    AnyNonce,
    /// A lease counts from the moment the answer came.
    CountsFromAnswer,
    /// A view is not compared with the lease's index.
    AnyView,
    /// A lease is used before the view has reached its index.
    UsesEarly,
    /// The leader waits for the lease's own length, as if all clocks ran alike.
    ForgetsDrift,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Sent,
    /// At a leader, which takes this index and asks a majority.
    Asked {
        epoch: u64,
        index: u64,
    },
    /// Confirmed.
    Answered(Grant),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Renewal {
    nonce: u64,
    stage: Stage,
}

/// What a process that leads knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Leader {
    node: usize,
    epoch: u64,
    book: Book,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// Units that each node's clock shows in a tick of true time.
    rates: [u64; NODES],
    t: u8,
    /// Whoever leads. One that a majority has left can neither confirm nor commit, so nothing that it still does
    /// counts.
    leader: Leader,
    committed: bool,
    /// Index of N's served view.
    view: u64,
    hold: Hold,
    holder: Holder,
    renewals: Vec<Renewal>,
    asked: u64,
    acked: bool,
    /// A question that came after the acknowledgement and took the old view; it is answered with whatever lease there
    /// is by then.
    question: bool,
    restarted: bool,
}

impl World {
    fn clock(&self, node: usize) -> Boot {
        // Not at 0, which says that there was never a lease.
        1000 + self.rates[node] * u64::from(self.t)
    }

    /// Whether the leader may say so, by its book. The end of a switch is an entry, so a deposed leader cannot.
    fn fenced(&self) -> bool {
        let left = self.leader.book.left(self.clock(self.leader.node)).of(N as u64);
        self.committed && Standing::of(self.view >= SWITCH, true, Some(left)).is_fenced()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Tick,
    /// The server asks for a renewal.
    Ask,
    /// The question arrives at the leader.
    Arrive {
        renewal: usize,
    },
    /// A majority confirmed the leader after that.
    Confirm {
        renewal: usize,
    },
    /// The answer arrives at the server.
    Deliver {
        renewal: usize,
    },
    /// The switch is committed.
    Commit,
    /// The server's view reaches the switch.
    View,
    /// The switch is called fenced.
    Acknowledge,
    /// A majority votes for this node, and it begins to lead.
    Elect {
        node: usize,
    },
    /// The server's process starts anew.
    Restart,
    /// A question arrives at the server.
    Question,
}

struct Lease {
    law: Law,
    terms: Terms,
    rates: Vec<[u64; NODES]>,
}

/// No old answer once the switch was called fenced.
const SOUND: &str = "no old answer once fenced";
/// That the world is not so small that nothing ever happens.
const HAPPENS: [&str; 3] =
    ["fenced while the server's view is old", "the same by a new leader after a restart", "a lease of a new leader"];

impl Lease {
    fn record(&self, w: &mut World) {
        let now = w.clock(w.leader.node);
        if !w.question {
            w.leader.book.record(N as u64, now, self.terms.bound());
        }
    }
}

impl Model for Lease {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        // The first leader began long ago: nobody holds a lease.
        let mut book = Book::default();
        book.enter(1, 0, Period(0));
        let first = Leader { node: 0, epoch: 1, book };
        let world = |rates: &[u64; NODES]| World {
            rates: *rates,
            t: 0,
            leader: first.clone(),
            committed: false,
            view: 0,
            hold: Hold::default(),
            holder: Holder::default(),
            renewals: Vec::new(),
            asked: 0,
            acked: false,
            question: false,
            restarted: false,
        };
        self.rates.iter().map(world).collect()
    }

    fn actions(&self, w: &World, out: &mut Vec<Event>) {
        // A server that serves the switch never goes back, so nothing after that can break the promise.
        if w.view >= SWITCH && !w.question {
            return;
        }
        // Before anything was asked, one moment is like any other.
        if w.t < HORIZON && (w.asked > 0 || w.leader.epoch > 1) {
            out.push(Event::Tick);
        }
        if w.asked < RENEWALS {
            out.push(Event::Ask);
        }
        for (renewal, r) in w.renewals.iter().enumerate() {
            match r.stage {
                Stage::Sent => out.push(Event::Arrive { renewal }),
                Stage::Asked { .. } => out.push(Event::Confirm { renewal }),
                Stage::Answered(_) => out.push(Event::Deliver { renewal }),
            }
        }
        if !w.committed {
            out.push(Event::Commit);
        } else if w.view < SWITCH {
            out.push(Event::View);
        }
        if !w.acked && w.fenced() {
            out.push(Event::Acknowledge);
        }
        // One change of leader: to another node, or to the one that led (a process that was restarted and leads again).
        if w.leader.epoch == 1 {
            out.extend((0..NODES).map(|node| Event::Elect { node }));
        }
        if !w.restarted && w.asked > 0 {
            out.push(Event::Restart);
        }
        if w.acked && w.view < SWITCH && !w.question {
            out.push(Event::Question);
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut w = before.clone();
        match event {
            Event::Tick => {
                w.t += 1;
                // A lease that is over is none for ever.
                if let Cover::Over(_) = w.hold.covers(SWITCH, w.clock(N)) {
                    w.hold = Hold::default();
                }
            }
            Event::Ask => {
                w.asked += 1;
                w.holder.ask(w.asked, w.clock(N));
                w.renewals.push(Renewal { nonce: w.asked, stage: Stage::Sent });
            }
            Event::Arrive { renewal } => {
                let index = if w.committed { SWITCH } else { 0 };
                if self.law != Law::RecordsLate {
                    self.record(&mut w);
                }
                w.renewals[renewal].stage = Stage::Asked { epoch: w.leader.epoch, index };
            }
            Event::Confirm { renewal } => {
                let Stage::Asked { epoch, index } = w.renewals[renewal].stage else { return None };
                if self.law == Law::RecordsLate {
                    self.record(&mut w);
                }
                let nonce = w.renewals[renewal].nonce;
                let grant = Grant { nonce, epoch, index, duration: self.terms.duration };
                w.renewals[renewal].stage = Stage::Answered(grant);
            }
            Event::Deliver { renewal } => {
                let Stage::Answered(mut grant) = w.renewals.remove(renewal).stage else { return None };
                if self.law == Law::AnyNonce {
                    grant.nonce = w.asked;
                }
                // Waiting for the view is coming later; what comes after a wait may as well come later itself.
                let hold = w.holder.granted(grant).filter(|h| w.view >= h.index || self.law == Law::UsesEarly);
                if let Some(mut hold) = hold {
                    if self.law == Law::CountsFromAnswer {
                        hold.until = w.clock(N) + grant.duration.0;
                    }
                    if self.law == Law::UsesEarly {
                        hold.index = 0;
                    }
                    w.hold = hold;
                }
            }
            Event::Commit => w.committed = true,
            Event::View => w.view = SWITCH,
            Event::Acknowledge => w.acked = true,
            Event::Elect { node } => {
                let bound = if self.law == Law::PresumesNothing { Period(0) } else { self.terms.bound() };
                let mut book = Book::default();
                book.enter(2, w.clock(node), bound);
                w.leader = Leader { node, epoch: 2, book };
                // Nobody confirms the one before any more.
                w.renewals.retain(|r| !matches!(r.stage, Stage::Asked { .. }));
            }
            Event::Restart => {
                w.restarted = true;
                // What it served it serves again only after a lease. Answers to the process before it may still come.
                (w.hold, w.holder, w.question) = (Hold::default(), Holder::default(), false);
            }
            Event::Question => {
                w.question = true;
                // Nothing is judged by the book any more.
                w.leader.book = Book::default();
            }
        }
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SOUND, |model: &Self, w: &World| {
                let mut hold = w.hold;
                if model.law == Law::AnyView {
                    hold.index = 0;
                }
                !(w.question && hold.covers(0, w.clock(N)) == Cover::Held)
            }),
            Property::sometimes(HAPPENS[0], |_, w: &World| w.acked && w.view < SWITCH && w.hold.until > 0),
            Property::sometimes(HAPPENS[1], |_, w: &World| w.acked && w.leader.epoch > 1 && w.restarted && w.question),
            Property::sometimes(HAPPENS[2], |_, w: &World| {
                w.leader.epoch > 1 && w.hold.covers(0, w.clock(N)) == Cover::Held && w.hold.until > w.clock(N) + 20
            }),
        ]
    }
}

/// A lease of three ticks on the slowest clock. One clock may be half as fast again as another: far more than in life,
/// so that a lease of a few ticks shows it.
fn lease(law: Law, rates: Vec<[u64; NODES]>) -> Lease {
    let drift_ppm = if law == Law::ForgetsDrift { 0 } else { 500_000 };
    Lease { law, terms: Terms { duration: Period(30), drift_ppm, margin: Period(0) }, rates }
}

/// The events that lead to an old answer, if any do.
fn old_answer(law: Law, rates: [u64; NODES]) -> Option<Vec<Event>> {
    let found = lease(law, vec![rates]).checker().threads(2).spawn_bfs().join().discovery(SOUND);
    found.map(stateright::Path::into_actions)
}

#[test]
fn in_every_order_of_events_nothing_old_is_answered_once_fenced() {
    let rates = (0..1 << NODES).map(|fast| std::array::from_fn(|n| if fast >> n & 1 == 1 { 15 } else { 10 })).collect();
    let checked = lease(Law::Right, rates).checker().threads(2).spawn_bfs().join();
    println!("{} worlds, at most {} events", checked.unique_state_count(), checked.max_depth());
    checked.assert_no_discovery(SOUND);
    for what in HAPPENS {
        checked.assert_any_discovery(what);
    }
    assert!(checked.is_done());
    assert!(checked.unique_state_count() > 500_000, "too small to say anything: {}", checked.unique_state_count());
}

#[test]
fn clocks_further_apart_than_promised_are_found() {
    let events = old_answer(Law::Right, [25, 25, 10]).expect("leaders' clocks that are far too fast");
    assert!(events.contains(&Event::Acknowledge), "{events:?}");
}

#[test]
fn each_way_to_break_the_law_is_found() {
    for law in [
        Law::RecordsLate,
        Law::PresumesNothing,
        Law::AnyNonce,
        Law::CountsFromAnswer,
        Law::AnyView,
        Law::UsesEarly,
        Law::ForgetsDrift,
    ] {
        let events = old_answer(law, [15, 15, 10]).unwrap_or_else(|| panic!("{law:?} goes unnoticed"));
        println!("{law:?}: {events:?}");
    }
}

/// One switch in a large world with the product's own times, five milliseconds a step: a server that renews as the
/// product does, messages that take their time, a partition from a moment on, perhaps a change of leader. Whether an
/// old answer was possible once fenced.
fn run(seed: u64, rates_ppm: [i64; 2]) -> bool {
    let mut random = StdRng::seed_from_u64(seed);
    let terms = Terms::default();
    let rate = |ppm: i64, t: u64| t.saturating_add_signed(i64::try_from(t).unwrap() * ppm / 1_000_000) + 1000;
    let (leader_clock, server_clock) = (|t| rate(rates_ppm[0], t), |t| rate(rates_ppm[1], t));
    let (mut book, mut holder, mut hold) = (Book::default(), Holder::default(), Hold::default());
    let mut epoch = 1;
    book.enter(epoch, leader_clock(0), terms.bound());
    let switched = random.random_range(1200..1800u64) * 5;
    let cut = random.random_range(switched - 1500..switched);
    let elects = random.random_bool(0.5).then(|| random.random_range(cut / 5..switched / 5 + 800) * 5);
    // (due, what): a question arrives, an answer arrives.
    let mut asked: Option<(u64, u64)> = None;
    let mut answer: Option<(u64, Grant)> = None;
    let (mut nonce, mut next_ask, mut fenced) = (0, 0, false);
    for t in (0..40_000u64).step_by(5) {
        let index = u64::from(t >= switched);
        if elects == Some(t) {
            epoch += 1;
            book.enter(epoch, leader_clock(t), terms.bound());
        }
        if t >= next_ask {
            nonce += 1;
            holder.ask(nonce, server_clock(t));
            next_ask = t + 1000;
            if t < cut {
                asked = Some((t + random.random_range(0..40u64), nonce));
            }
        }
        if let Some((due, n)) = asked
            && t >= due
        {
            book.record(3, leader_clock(t), terms.bound());
            let grant = Grant { nonce: n, epoch, index, duration: terms.duration };
            (asked, answer) = (None, Some((t + random.random_range(0..40u64), grant)));
        }
        if let Some((due, grant)) = answer
            && t >= due
        {
            answer = None;
            // Cut off, its view stays where it is.
            if let Some(h) = holder.granted(grant).filter(|h| h.index == 0) {
                hold = h;
            }
        }
        fenced |= index > 0 && Standing::of(false, true, Some(book.left(leader_clock(t)).of(3))).is_fenced();
        if fenced && hold.covers(0, server_clock(t)) == Cover::Held {
            return true;
        }
        if fenced && t > switched + 20_000 {
            break;
        }
    }
    assert!(fenced, "seed {seed}: a cut off server held the switch up for ever");
    false
}

#[test]
fn from_seeds_drift_inside_the_bound_is_harmless_and_outside_it_is_found() {
    let broken = |ppm: [i64; 2]| (0..60).filter(|seed| run(*seed, ppm)).count();
    for ppm in [[0, 0], [500, -500], [-500, 500], [1000, 0], [0, -1000]] {
        assert_eq!(broken(ppm), 0, "{ppm:?} parts per million are within the bound");
    }
    // What the chaos runs give a node: far beyond the bound and the margin.
    let found = broken([20_000, 0]);
    assert!(found > 10, "a clock that is 2 % fast went unnoticed: {found} of 60");
}
