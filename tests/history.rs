//! The judge of histories, judged: known good and known bad ones, and small random ones beside every order tried by hand.

#[path = "history/mod.rs"]
mod history;

use std::time::Duration;

use history::{Call, Cell, Model, Op, Out, Register, Verdict, check};
use rand::{RngExt, SeedableRng, rngs::StdRng};

type Row = Call<Op, Out>;

const LIMIT: Duration = Duration::from_secs(20);

fn read(client: usize, called: u64, returned: u64, seen: Cell) -> Row {
    Call { client, op: Op::Read, called, returned: Some((returned, Out::Read(seen))) }
}

fn write(client: usize, called: u64, returned: Option<u64>, value: u64) -> Row {
    let op = Op::Write { expected: None, value };
    Call { client, op, called, returned: returned.map(|at| (at, Out::Written)) }
}

fn cas(client: usize, called: u64, returned: u64, expected: u64, value: u64, out: Out) -> Row {
    Call { client, op: Op::Write { expected: Some(expected), value }, called, returned: Some((returned, out)) }
}

fn judge(rows: &[Row]) -> Verdict {
    check::<Register>(rows, LIMIT)
}

fn is_bad(rows: &[Row], names: &str) {
    match judge(rows) {
        Verdict::Stuck(what) => assert!(what.contains(names), "{what} does not name {names}"),
        other => panic!("{other:?}: {rows:?}"),
    }
}

#[test]
fn good_histories_pass() {
    let good: [&[Row]; 7] = [
        &[],
        &[write(1, 0, Some(1), 7), read(2, 2, 3, (1, 7))],
        // Concurrent with the write, a read may see either.
        &[write(1, 0, Some(9), 7), read(2, 1, 2, (0, 0)), read(3, 3, 4, (1, 7))],
        // An unknown outcome may be seen late...
        &[write(1, 0, None, 7), read(2, 5, 6, (0, 0)), write(2, 7, Some(8), 9), read(2, 9, 10, (2, 7))],
        // ...or never.
        &[write(1, 0, None, 7), write(2, 1, Some(2), 8), read(2, 3, 4, (1, 8))],
        // Of two that expect the same revision one is refused.
        &[cas(1, 0, 5, 0, 7, Out::Written), cas(2, 1, 4, 0, 8, Out::Stale), read(1, 6, 7, (1, 7))],
        &[write(1, 0, Some(1), 7), write(2, 2, Some(3), 7), read(1, 4, 5, (1, 7))],
    ];
    for rows in good {
        assert_eq!(judge(rows), Verdict::Linearizable, "{rows:?}");
    }
}

#[test]
fn bad_histories_fail_and_the_operation_is_named() {
    // Acknowledged, then lost.
    is_bad(&[write(1, 0, Some(1), 7), read(2, 2, 3, (0, 0))], "Read((0, 0))");
    // A stale read after a fresh one.
    is_bad(&[write(1, 0, Some(9), 7), read(2, 1, 2, (1, 7)), read(3, 3, 4, (0, 0))], "Read((0, 0))");
    // Done twice: another write came between, so the repeat is seen.
    let twice = [write(1, 0, Some(1), 7), write(2, 2, Some(3), 8), read(3, 4, 5, (3, 7))];
    is_bad(&twice, "Read((3, 7))");
    // An unknown one that was seen, and then was not there.
    is_bad(&[write(1, 0, None, 7), read(2, 1, 2, (1, 7)), read(2, 3, 4, (0, 0))], "Read((0, 0))");
    // Both writers won.
    is_bad(&[cas(1, 0, 5, 0, 7, Out::Written), cas(2, 1, 4, 0, 8, Out::Written)], "expected: Some(0)");
    // Refused although nobody was before it.
    is_bad(&[cas(1, 0, 1, 0, 7, Out::Stale)], "Stale");
    // Seen before it was asked for.
    is_bad(&[read(1, 0, 1, (1, 7)), write(2, 2, Some(3), 7)], "Read((1, 7))");
}

/// All orders, one after the other: the definition itself. `rest` holds what has no place yet.
fn explained(state: &Cell, rest: &[&Row]) -> bool {
    if rest.iter().all(|c| c.returned.is_none()) {
        return true;
    }
    let first_end = rest.iter().filter_map(|c| c.returned.as_ref().map(|r| r.0)).min().unwrap_or(u64::MAX);
    (0..rest.len()).filter(|i| rest[*i].called <= first_end).any(|i| {
        let out = rest[i].returned.as_ref().map(|r| &r.1);
        let others: Vec<&Row> = rest.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, c)| *c).collect();
        Register::step(state, &rest[i].op, out).is_some_and(|next| explained(&next, &others))
    })
}

#[test]
fn random_histories_are_judged_as_by_trying_every_order() {
    let mut random = StdRng::seed_from_u64(7);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4_000 {
        let rows: Vec<Row> = (0..random.random_range(1..=7))
            .map(|client| {
                let called = random.random_range(0..20);
                let end = called + random.random_range(1..12);
                let value = random.random_range(1..4);
                match random.random_range(0..4) {
                    0 => read(client, called, end, (random.random_range(0..3), random.random_range(0..4))),
                    1 => write(client, called, random.random_bool(0.7).then_some(end), value),
                    n => {
                        let out = if n == 2 { Out::Written } else { Out::Stale };
                        cas(client, called, end, random.random_range(0..3), value, out)
                    }
                }
            })
            .collect();
        let by_hand = explained(&(0, 0), &rows.iter().collect::<Vec<_>>());
        assert_eq!(judge(&rows) == Verdict::Linearizable, by_hand, "{rows:?}");
        *(if by_hand { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 200 && bad > 200, "{good} good, {bad} bad: too few of one kind");
}

/// A history of a register that works: each operation takes effect somewhere between its call and its return.
fn recorded(clients: usize, operations: u64) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(11);
    let (mut free, mut cell, mut rows) = (vec![0u64; clients], (0, 0), Vec::new());
    for i in 1..=operations {
        let (client, effect) = (random.random_range(0..clients), i * 10);
        let called = free[client].max(effect.saturating_sub(random.random_range(1..60)));
        let end = effect + random.random_range(1..60);
        if called >= effect {
            continue;
        }
        free[client] = end + 1;
        if random.random_bool(0.4) {
            rows.push(read(client, called, end, cell));
        } else {
            cell = (cell.0 + 1, i);
            rows.push(write(client, called, random.random_bool(0.95).then_some(end), i));
        }
    }
    rows
}

#[test]
fn thousands_of_operations_are_judged_in_time_and_one_lost_write_is_found() {
    let mut rows = recorded(8, 5_000);
    assert!(rows.len() > 2_000, "{}", rows.len());
    assert_eq!(judge(&rows), Verdict::Linearizable);
    let last = rows.iter().map(|r| r.returned.as_ref().map_or(r.called, |x| x.0)).max().unwrap_or_default();
    rows.push(read(0, last + 1, last + 2, (1, 1)));
    assert!(matches!(judge(&rows), Verdict::Stuck(_)), "an old value at the end");
}

#[test]
fn a_search_ends_at_its_limit() {
    // Many unknown writes and a read of none of them: nothing but trying tells.
    let mut rows: Vec<Row> = (0..40).map(|i| write(0, 0, None, i + 1)).collect();
    rows.push(read(1, 1, 2, (39, 99)));
    assert_eq!(check::<Register>(&rows, Duration::from_millis(200)), Verdict::TimedOut);
}
