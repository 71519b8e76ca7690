//! Stories of packages that nobody needs any more, and of releases that somebody is about to register.

use slipway::model::Period;
use slipway::state::command::{BlobDoomed, BlobDropped, ReleaseRemoved};

use super::*;

fn digest(n: u32) -> Digest {
    Digest::new(&format!("{n:064x}")).unwrap()
}

fn held(n: u32, node: u64) -> Command {
    BlobHeld { digest: digest(n), size: 100, node }.into()
}

fn doomed(n: u32, node: u64) -> Command {
    BlobDoomed { digest: digest(n), node }.into()
}

fn push(version: &str, n: u32) -> Command {
    let (service, version) = (shop().service, version.parse().unwrap());
    let (build, labels) = (BuildInfo::default(), BTreeMap::new());
    ReleaseRegistered { service, version, digest: digest(n), build, labels }.into()
}

fn holders(t: &Story, n: u32) -> Vec<u64> {
    t.s().blobs.get(&digest(n)).map(|b| b.holders.clone()).unwrap_or_default()
}

#[test]
fn a_package_is_doomed_only_when_no_release_names_it_and_nobody_has_just_brought_it() {
    let mut t = Story::new();
    t.pass(Period::minutes(90));
    assert!(t.no(doomed(1, 1)).contains("is of shop 1.0.0"));
    assert!(t.no(doomed(1, 3)).contains("is of shop 1.0.0"), "one that is fetching it needs it too");
    t.ok(held(9, 1));
    assert!(t.no(doomed(9, 1)).contains("is kept until"));
    t.pass(Period::minutes(40));
    // Somebody brings it again, so it is kept anew, and for all who hold it.
    t.ok(held(9, 1));
    t.ok(held(9, 2));
    t.pass(Period::minutes(40));
    assert!(t.no(doomed(9, 1)).contains("is kept until"));
    t.pass(Period::minutes(30));
    t.ok(doomed(9, 1));
    assert_eq!(holders(&t, 9), [2]);
    // A file that State does not know may go.
    t.ok(doomed(9, 1));
    t.ok(doomed(77, 1));
    t.ok(doomed(9, 2));
    assert!(!t.s().blobs.contains_key(&digest(9)));
    // What vanished is told, whatever names it.
    t.ok(BlobDropped { digest: digest(1), node: 1 }.into());
}

#[test]
fn of_a_node_that_deletes_and_one_who_registers_the_later_one_is_refused() {
    let mut t = Story::new();
    t.ok(held(9, 1));
    t.ok(held(9, 2));
    t.pass(Period::minutes(61));
    let mut other = Story(t.0.clone());
    t.ok(doomed(9, 1));
    assert!(t.no(push("9.0.0", 9)).contains("is on 1 of 3 nodes and needs a majority"));
    t.ok(held(9, 1));
    t.ok(push("9.0.0", 9));
    other.ok(push("9.0.0", 9));
    assert!(other.no(doomed(9, 1)).contains("is of shop 9.0.0"));
    // After its last release it is kept for a while, as that may have been a mistake, and then it may go.
    other.ok(ReleaseRemoved { service: shop().service, version: "9.0.0".parse().unwrap() }.into());
    assert!(other.no(doomed(9, 1)).contains("is kept until"));
    other.pass(Period::minutes(61));
    other.ok(doomed(9, 1));
    assert_eq!(holders(&other, 9), [2]);
}

#[test]
fn the_same_word_again_changes_a_row_only_when_its_time_is_half_over() {
    let mut t = Story::new();
    t.ok(held(9, 1));
    let row = t.s().blobs[&digest(9)].clone();
    t.ok(held(9, 1));
    assert_eq!(t.s().blobs[&digest(9)], row);
    t.pass(Period::minutes(31));
    t.ok(held(9, 1));
    assert!(t.s().blobs[&digest(9)].kept_until > row.kept_until);
}
