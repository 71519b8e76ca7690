//! The rooms of `src/state/`: which part of the law may import which. `ARCHITECTURE.md` shows the same table.
//!
//! Invariants: the table has no cycle; inside `state` a file names the room that it needs and not what `state` exports
//! to others. Rows of all rooms are one part, since State is made of them. Not here: what `state` as a whole may import
//! (`table`).

use crate::rules::Report;
use crate::source::{Path, Source};

/// Part, what it may import of the others.
pub const ROOMS: [(&str, &[&str]); 11] = [
    ("store", &[]),
    ("rows", &["store"]),
    ("tables", &["store", "rows"]),
    ("state", &["store", "rows", "tables"]),
    ("base", &["rows", "state"]),
    ("catalog", &["rows", "state", "base"]),
    ("fleet", &["store", "rows", "state", "base"]),
    ("traffic", &["rows", "state", "base", "catalog", "fleet"]),
    ("cluster", &["rows", "state", "base", "catalog", "traffic"]),
    ("rollout", &["store", "rows", "state", "base", "catalog", "fleet", "traffic"]),
    ("log", &["store", "rows", "tables", "state", "base", "catalog", "fleet", "traffic", "cluster", "rollout"]),
];

/// Files beside `rows.rs` that hold rows.
const ROWS: [&str; 6] =
    ["base/event", "base/rejection", "cluster/settings", "traffic/arms", "traffic/fences", "traffic/key_slots"];

fn row(part: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == part).map(|(_, may)| *may)
}

/// The part that a file of a room belongs to.
fn part<'a>(room: &'a str, file: &str) -> &'a str {
    if file == "rows" || ROWS.contains(&format!("{room}/{file}").as_str()) { "rows" } else { room }
}

/// What a path means from the crate's root, when it says so by `crate` or `super`.
fn absolute(p: &Path) -> Option<Vec<String>> {
    let supers = p.segments.iter().take_while(|s| *s == "super").count();
    match p.segments.first().map(String::as_str) {
        Some("crate") => Some(p.segments[1..].to_vec()),
        Some("super") => {
            let base = p.inside.len().checked_sub(supers)?;
            Some(p.inside[..base].iter().chain(&p.segments[supers..]).cloned().collect())
        }
        Some(_) | None => None,
    }
}

/// The rule, for files in a room of `src/state/`.
pub fn check(s: &Source, r: &mut Report) {
    let Some((room, file)) = s.name.strip_prefix("src/state/").and_then(|rest| rest.split_once('/')) else { return };
    let file = file.trim_end_matches(".rs");
    // A room's `mod.rs` only declares, and the declaration of commands names each by its room.
    if file == "mod" || (room, file) == ("log", "command") {
        return;
    }
    let own = part(room, file);
    let Some(may) = row(own) else {
        r.add("rooms", 1, format!("`{room}` has no row in the table of rooms: add one, with its reason"));
        return;
    };
    for p in s.paths.iter().filter(|p| !p.test) {
        let Some(at) = absolute(p).filter(|at| at.first().is_some_and(|m| m == "state")) else { continue };
        let Some(named) = at.get(1).map(String::as_str) else { continue };
        let other = match (named, at.get(2)) {
            ("State", _) => "state",
            (room, Some(file)) if row(room).is_some() => part(room, file),
            (room, None) if row(room).is_some() => room,
            (_, _) => {
                let text = format!("`{}`: inside `state` name the room, not what `state` exports", p.show());
                r.add("rooms", p.line, text);
                continue;
            }
        };
        if other != own && !may.contains(&other) {
            let list = may.join(", ");
            r.add("rooms", p.line, format!("`{own}` may not import `{other}` (`{}`); it may import: {list}", p.show()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn says(name: &str, body: &str) -> Vec<String> {
        let files = BTreeMap::from([(name.to_owned(), format!("//! A file.\n\n{body}"))]);
        let found = crate::check_all(&files).into_iter().filter(|v| v.rule == "rooms");
        found.map(|v| v.message).collect()
    }

    #[test]
    fn rooms_have_no_cycle() {
        let mut placed: Vec<&str> = Vec::new();
        while placed.len() < ROOMS.len() {
            let free = ROOMS.iter().find(|(m, may)| !placed.contains(m) && may.iter().all(|o| placed.contains(o)));
            placed.push(free.expect("a cycle in the table of rooms").0);
        }
    }

    #[test]
    fn a_room_imports_what_its_row_lists() {
        let red = |name: &str, body: &str, text: &str| {
            let said = says(name, body);
            assert!(said.iter().any(|m| m.contains(text)), "{name}: {body}: {said:?}");
        };
        red("src/state/fleet/x.rs", "use crate::state::rollout::steps;", "`fleet` may not import `rollout`");
        red("src/state/base/context.rs", "use super::super::traffic::slots;", "`base` may not import `traffic`");
        red("src/state/fleet/rows.rs", "use crate::state::State;", "`rows` may not import `state`");
        red("src/state/traffic/fences.rs", "use super::routes;", "`rows` may not import `traffic`");
        red("src/state/store/x.rs", "use crate::state::fleet::rows::Worker;", "`store` may not import `rows`");
        red("src/state/fleet/x.rs", "use crate::state::Worker;", "name the room");
        red("src/state/attic/x.rs", "use crate::state::State;", "has no row in the table of rooms");
        for (name, body) in [
            (
                "src/state/rollout/x.rs",
                "use super::{rows::Rollout, steps};\nuse crate::state::fleet::{drain, rows::Worker};",
            ),
            ("src/state/fleet/rows.rs", "use crate::state::{base::rows::Meta, rollout::rows::Rollout};"),
            ("src/state/fleet/x.rs", "#[cfg(test)] mod tests { use crate::state::{apply, rollout::steps}; }"),
            ("src/state/log/command.rs", "pub use crate::state::fleet::worker_lost::WorkerLost;"),
            ("src/engine/x.rs", "use crate::state::Worker;"),
        ] {
            assert_eq!(says(name, body), Vec::<String>::new(), "{name}");
        }
    }
}
