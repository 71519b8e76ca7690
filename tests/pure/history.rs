//! The judge of histories, judged: known good and known bad ones, and small random ones beside every order tried by
//! hand.

use std::time::Duration;

use crate::helpers::history::{Call, Judgement, Model, Op, Out, Register, Verdict, check, register::Cell};
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
    check::<Register>(rows, LIMIT).verdict
}

fn is_bad(rows: &[Row], names: &str) {
    match check::<Register>(rows, LIMIT) {
        Judgement { verdict: Verdict::NotLinearizable, stuck_at: Some(what), .. } => {
            assert!(what.contains(names), "{what} does not name {names}");
        }
        other => panic!("{other:?}: {rows:?}"),
    }
}

#[test]
fn good_histories_pass() {
    let lost_cas = |expected, value| Call { returned: None, ..cas(1, 0, 1, expected, value, Out::Written) };
    let good: [&[Row]; 9] = [
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
        // Two of unknown outcome that nobody saw came between, of three that may have.
        &[write(1, 0, None, 7), write(1, 0, None, 8), lost_cas(5, 9), write(2, 3, Some(4), 1), read(3, 5, 6, (3, 1))],
        &[
            write(1, 0, None, 7),
            write(2, 1, Some(2), 1),
            lost_cas(1, 9),
            write(2, 3, Some(4), 2),
            read(3, 5, 6, (3, 2)),
        ],
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
    is_bad(&twice, "whose value was read at revision 3");
    is_bad(&[&twice[..], &[read(3, 1, 2, (1, 7))]].concat(), "Read((3, 7))");
    // An unknown one that was seen, and then was not there.
    is_bad(&[write(1, 0, None, 7), read(2, 1, 2, (1, 7)), read(2, 3, 4, (0, 0))], "Read((0, 0))");
    // Both writers won.
    is_bad(&[cas(1, 0, 5, 0, 7, Out::Written), cas(2, 1, 4, 0, 8, Out::Written)], "expected: Some(0)");
    // Refused although nobody was before it.
    is_bad(&[cas(1, 0, 1, 0, 7, Out::Stale)], "Stale");
    // More came between than were sent.
    is_bad(
        &[write(1, 0, None, 7), write(2, 1, Some(2), 1), read(3, 5, 6, (3, 1))],
        "whose value was read at revision 3",
    );
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
    for round in 0..8_000 {
        // In every second one each value is written once: what a read saw tells of writes with an unknown outcome.
        let once = round % 2 == 0;
        let rows: Vec<Row> = (0..random.random_range(1..=7))
            .map(|client| {
                let called = random.random_range(0..20);
                let end = called + random.random_range(1..12);
                let value = if once { client as u64 + 1 } else { random.random_range(1..4) };
                match random.random_range(0..6) {
                    0 | 1 => read(client, called, end, (random.random_range(0..4), random.random_range(0..4))),
                    2 => write(client, called, random.random_bool(0.7).then_some(end), value),
                    3 => write(client, called, random.random_bool(0.2).then_some(end), value),
                    n => {
                        let out = if n == 4 { Out::Written } else { Out::Stale };
                        let sure = random.random_bool(0.6);
                        let row = cas(client, called, end, random.random_range(0..3), value, out);
                        Call { returned: row.returned.filter(|_| sure), ..row }
                    }
                }
            })
            .collect();
        let by_hand = explained(&(0, 0), &rows.iter().collect::<Vec<_>>());
        assert_eq!(judge(&rows) == Verdict::Linearizable, by_hand, "{rows:?}");
        *(if by_hand { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad: too few of one kind");
}

/// A history of a register that works: each operation takes effect somewhere between its call and its return. Of the
/// writes so many in a hundred have an unknown outcome, and of these every fourth took effect.
fn recorded(clients: usize, operations: u64, unknown: u32) -> Vec<Row> {
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
            continue;
        }
        let expected = random.random_bool(0.5).then(|| cell.0 - cell.0.min(random.random_range(0..2)));
        let sure = !random.random_ratio(unknown, 100);
        let written = expected.is_none_or(|e| e == cell.0);
        if written && (sure || random.random_bool(0.25)) {
            cell = (cell.0 + 1, i);
        }
        let out = if written { Out::Written } else { Out::Stale };
        rows.push(Call { client, op: Op::Write { expected, value: i }, called, returned: sure.then_some((end, out)) });
    }
    rows
}

/// The history is explained; and no more so once an old value is read after its end.
fn is_told_from_one_with_a_lost_write(mut rows: Vec<Row>) {
    assert_eq!(judge(&rows), Verdict::Linearizable);
    let last = rows.iter().map(|r| r.returned.as_ref().map_or(r.called, |x| x.0)).max().unwrap_or_default();
    rows.push(read(0, last + 1, last + 2, (1, 1)));
    assert_eq!(judge(&rows), Verdict::NotLinearizable, "an old value at the end");
}

#[test]
fn thousands_of_operations_are_judged_in_time_and_one_lost_write_is_found() {
    let rows = recorded(8, 5_000, 1);
    assert!(rows.len() > 2_000, "{}", rows.len());
    is_told_from_one_with_a_lost_write(rows);
}

#[test]
fn writes_of_unknown_outcome_do_not_stop_the_judge_though_most_are() {
    let rows = recorded(5, 1_000, 90);
    let unknown = rows.iter().filter(|r| r.returned.is_none()).count();
    assert!(rows.len() > 400 && unknown * 2 > rows.len(), "{unknown} of {}", rows.len());
    is_told_from_one_with_a_lost_write(rows);
}

#[test]
fn a_search_ends_at_its_limit_and_says_how_far_it_came() {
    // Many writes at once, and then a read of none of them: nothing but trying tells.
    let mut rows: Vec<Row> = (0..40).map(|i| write(0, 0, Some(50), i + 1)).collect();
    rows.push(read(1, 60, 61, (39, 99)));
    let said = check::<Register>(&rows, Duration::from_millis(200));
    assert_eq!((said.verdict, said.operations, said.unknown), (Verdict::OutOfTime, 41, 0), "{said:?}");
    assert!(said.placed <= 40 && said.tried > 1_000, "{said:?}");
    // The same of unknown outcome can be told: none of them wrote 99.
    let unknown: Vec<Row> =
        rows.into_iter().map(|r| Call { returned: r.returned.filter(|_| r.client == 1), ..r }).collect();
    assert_eq!(judge(&unknown), Verdict::NotLinearizable);
}
