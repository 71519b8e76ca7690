//! What workers and releases may say of themselves: the largest that is allowed is taken, one more is refused by its
//! text.

use super::*;

fn many(n: usize, key: usize, value: usize) -> BTreeMap<String, String> {
    (0..n).map(|i| (format!("{i:0>key$}"), "v".repeat(value))).collect()
}

/// So many addresses of one network.
fn addresses(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("10.9.{}.{}", i / 250, i % 250 + 1)).collect()
}

#[test]
fn a_worker_that_says_more_than_is_allowed_is_refused_by_what_it_is() {
    let mut t = Story::new();
    let Command::WorkerRegistered(plain) = worker("w9", 9, &[]) else { panic!("no registration") };
    let with = |edit: &dyn Fn(&mut WorkerRegistered)| {
        let mut w = plain.clone();
        edit(&mut w);
        Command::WorkerRegistered(w)
    };
    for (bad, says) in [
        (with(&|w| w.key = "f".repeat(63)), "the key is not 64 hexadecimal digits"),
        (with(&|w| w.key = "f".repeat(65)), "the key is not 64 hexadecimal digits"),
        (with(&|w| w.key = "g".repeat(64)), "the key is not 64 hexadecimal digits"),
        (with(&|w| w.capacity = 0), "capacity 0 is not from 1 to 10000"),
        (with(&|w| w.capacity = 10_001), "capacity 10001 is not from 1 to 10000"),
        (with(&|w| w.labels = many(65, 2, 1)), "labels: at most 64"),
        (with(&|w| w.labels = many(1, 129, 1)), "labels: at most 64, names up to 128"),
        (with(&|w| w.labels = many(1, 1, 257)), "values up to 256"),
        (with(&|w| w.labels = BTreeMap::from([(String::new(), "v".into())])), "labels: at most 64"),
        (with(&|w| w.build = "b".repeat(129)), "its version text is longer than 128"),
        (with(&|w| w.keeping = "k".repeat(513)), "keeping processes together is longer than 512"),
        (with(&|w| w.pool = addresses(1025)), "a pool of 1025 addresses is over the limit of 1024"),
        (with(&|w| w.absent = addresses(1026)), "1026 absent addresses are over the limit of 1025"),
        (with(&|w| w.host = "there".into()), "\"there\" is not an IP address"),
        (with(&|w| w.host = "0.0.0.0".into()), "0.0.0.0"),
        (with(&|w| w.pool = vec!["224.0.0.1".into()]), "no instance can have it"),
    ] {
        t.refuses(bad, says);
    }
    t.ok(with(&|w| {
        (w.key, w.capacity, w.labels) = ("f".repeat(64), 10_000, many(64, 128, 256));
        (w.build, w.keeping) = ("b".repeat(128), "k".repeat(512));
        (w.pool, w.absent) = (addresses(1024), addresses(1025));
    }));
    t.ok(Command::WorkerRegistered(WorkerRegistered { name: WorkerName::new("w10").unwrap(), capacity: 1, ..plain }));
}

#[test]
fn a_release_that_says_more_than_is_allowed_is_refused_by_what_it_is() {
    let mut t = Story::new();
    let plain = ReleaseRegistered {
        service: shop().service,
        version: "9.0.0".parse().unwrap(),
        digest: crate::walk::package(1),
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    };
    let with = |edit: &dyn Fn(&mut ReleaseRegistered)| {
        let mut r = plain.clone();
        edit(&mut r);
        Command::ReleaseRegistered(r)
    };
    let long = || "x".repeat(257);
    for (bad, says) in [
        (with(&|r| r.build.commit = long()), "build information"),
        (with(&|r| r.build.built_at = long()), "build information"),
        (with(&|r| r.build.toolchain = long()), "build information"),
        (with(&|r| r.build.components = many(257, 3, 1)), "257 are over the limit of 256"),
        (with(&|r| r.build.components = many(1, 257, 1)), "is not a name of 1 to 256"),
        (with(&|r| r.build.components = many(1, 1, 257)), "is not 1 to 256 characters"),
        (with(&|r| r.labels = many(65, 2, 1)), "labels: at most 64"),
        (with(&|r| r.labels = many(1, 257, 1)), "of 256 characters each"),
        (with(&|r| r.labels = many(1, 1, 257)), "of 256 characters each"),
    ] {
        t.refuses(bad, says);
    }
    t.ok(with(&|r| {
        let most = || "x".repeat(256);
        (r.build.commit, r.build.built_at, r.build.toolchain) = (most(), most(), most());
        (r.build.components, r.labels) = (many(256, 256, 256), many(64, 256, 256));
    }));
}
