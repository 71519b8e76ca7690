//! Tests of the log database: reopening, damage, failure, and a model check of append, truncate and purge.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

fn append_wait(db: &LogDb, entries: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    db.append(entries, Box::new(move |r| tell.send(r).unwrap())).map_err(StorageError::into_io)?;
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn rows(range: Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|i| (i, format!("entry {i}").into_bytes())).collect()
}

fn all(db: &LogDb) -> Vec<(u64, Vec<u8>)> {
    db.read(0..u64::MAX, usize::MAX, usize::MAX).unwrap()
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = LogDb::open(dir.path()).unwrap();
        append_wait(&db, rows(0..100)).unwrap();
        db.put_meta_synced("vote", b"term 7").unwrap();
        db.put_meta_unsynced("committed", b"99").unwrap();
        db.purge_to(9, b"marker").unwrap();
        db.truncate_from(90).unwrap();
    }
    let db = LogDb::open(dir.path()).unwrap();
    assert_eq!((db.first(), db.last()), (Some(10), Some(89)));
    assert_eq!(db.purged().unwrap(), Some((9, b"marker".to_vec())));
    assert_eq!(db.meta("vote").unwrap().as_deref(), Some(&b"term 7"[..]));
    assert_eq!(db.meta("committed").unwrap().as_deref(), Some(&b"99"[..]));
    assert_eq!(db.meta("absent").unwrap(), None);
    assert_eq!(all(&db), rows(10..90));
}

#[test]
fn reads_are_bounded_by_count_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, (1..=10).map(|i| (i, vec![0; 100])).collect()).unwrap();
    assert_eq!(db.read(3..8, 100, 10_000).unwrap().len(), 5);
    assert_eq!(db.read(3..8, 2, 10_000).unwrap().len(), 2);
    assert_eq!(db.read(3..8, 100, 250).unwrap().len(), 2);
    // One entry larger than the bound must still come through, or replication would stand still.
    assert_eq!(db.read(3..8, 100, 10).unwrap().len(), 1);
    assert!(db.read(11..20, 100, 100).unwrap().is_empty());
    #[expect(clippy::reversed_empty_ranges)]
    let reversed = 8..3;
    assert!(db.read(reversed, 100, 100).unwrap().is_empty());
}

#[test]
fn a_hole_is_refused_at_append() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..3)).unwrap();
    let refused = db.append(rows(4..5), Box::new(|_| panic!("must not be called"))).unwrap_err();
    assert!(matches!(refused, StorageError::Hole { expected: 3, found: 4 }), "{refused}");
    assert_eq!(all(&db), rows(0..3));
    db.purge_to(10, b"").unwrap();
    let refused = db.append(rows(3..4), Box::new(|_| panic!("must not be called"))).unwrap_err();
    assert!(matches!(refused, StorageError::Hole { expected: 11, found: 3 }), "{refused}");
    append_wait(&db, rows(11..12)).unwrap();
}

#[test]
fn a_hole_or_lost_start_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..10)).unwrap();
    db.inner.db.delete_cf(db.family(LOG).unwrap(), key(5)).unwrap();
    drop(db);
    let refused = LogDb::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StorageError::Hole { expected: 5, found: 6 }), "{refused}");

    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..10)).unwrap();
    db.purge_to(3, b"").unwrap();
    db.inner.db.delete_cf(db.family(LOG).unwrap(), key(4)).unwrap();
    drop(db);
    let refused = LogDb::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StorageError::Hole { expected: 4, found: 5 }), "{refused}");
}

#[test]
fn a_garbled_or_torn_value_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..10)).unwrap();
    let mut value = sealed(&key(7), b"entry 7");
    *value.last_mut().unwrap() ^= 1;
    db.inner.db.put_cf(db.family(LOG).unwrap(), key(7), &value).unwrap();
    let said = db.read(0..100, 100, 10_000).unwrap_err().to_string();
    assert!(said.contains("log entry 7 is damaged"), "{said}");
    // A sound value under another entry's key is damage too.
    db.inner.db.put_cf(db.family(LOG).unwrap(), key(7), sealed(&key(8), b"entry 8")).unwrap();
    assert!(db.read(7..8, 100, 10_000).is_err());
    db.inner.db.put_cf(db.family(META).unwrap(), "vote", b"abc").unwrap();
    let said = db.meta("vote").unwrap_err().to_string();
    assert!(said.contains("`vote` is damaged"), "{said}");
    drop(db);
    let refused = LogDb::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StorageError::DamagedEntry { index: 7, .. }), "{refused}");
}

#[test]
fn the_first_failed_sync_closes_the_database_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let switch = broken.clone();
    let db = LogDb::open_with(dir.path(), |_| {
        move || if switch.load(Ordering::SeqCst) { Err("EIO".into()) } else { Ok(()) }
    })
    .unwrap();
    let watch = db.poisoned();
    append_wait(&db, rows(0..1)).unwrap();
    assert!(watch.borrow().is_none());
    broken.store(true, Ordering::SeqCst);
    let said = append_wait(&db, rows(1..2)).unwrap_err().to_string();
    assert!(said.contains("EIO"), "{said}");
    broken.store(false, Ordering::SeqCst);
    assert!(watch.borrow().as_ref().unwrap().contains("EIO"));
    for refused in [
        db.append(rows(2..3), Box::new(|_| ())),
        db.put_meta_synced("vote", b""),
        db.put_meta_unsynced("committed", b""),
        db.truncate_from(0),
        db.purge_to(0, b""),
    ] {
        assert!(refused.unwrap_err().to_string().contains("EIO"));
    }
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    let refused = LogDb::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    let closed = db.closed_check();
    assert!(!closed());
    drop(db);
    assert!(closed());
    LogDb::open(dir.path()).unwrap();
}

/// Copies the files of an open database: what a crash would leave if everything written had reached the disk.
fn crash_image(from: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|f| f.unwrap()) {
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
        }
    }
    image
}

fn write_ahead_log(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap()
}

#[test]
fn after_a_crash_all_that_was_durable_is_there_and_a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..20)).unwrap();
    db.put_meta_synced("vote", b"term 3").unwrap();
    let durable = std::fs::metadata(write_ahead_log(dir.path())).unwrap().len();
    for i in 20..30 {
        append_wait(&db, rows(i..i + 1)).unwrap();
    }
    let whole = std::fs::metadata(write_ahead_log(dir.path())).unwrap().len();
    for left in (durable..=whole).step_by(7) {
        let image = crash_image(dir.path());
        let file = std::fs::OpenOptions::new().write(true).open(write_ahead_log(image.path())).unwrap();
        file.set_len(left).unwrap();
        let again = LogDb::open(image.path()).unwrap();
        let last = again.last().unwrap();
        assert!(last >= 19, "cut at {left} of {durable}..{whole}: last is {last}");
        assert_eq!(all(&again), rows(0..last + 1));
        assert_eq!(again.meta("vote").unwrap().as_deref(), Some(&b"term 3"[..]));
        append_wait(&again, rows(last + 1..last + 2)).unwrap();
    }
}

#[test]
fn damage_in_the_middle_of_the_write_ahead_log_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    for i in 0..20 {
        append_wait(&db, rows(i..i + 1)).unwrap();
    }
    let sound = std::fs::read(write_ahead_log(dir.path())).unwrap();
    let middle = sound.len() / 2;
    for at in (middle..middle + 80).step_by(4) {
        let image = crash_image(dir.path());
        let mut bytes = sound.clone();
        bytes[at] ^= 0x01;
        let file = write_ahead_log(image.path());
        std::fs::write(&file, bytes).unwrap();
        // Opening what is left would silently forget entries that were acknowledged; also where a length now points
        // beyond the end of the file, which RocksDB takes for a torn tail.
        let said = LogDb::open(image.path()).err().unwrap().to_string();
        assert!(said.contains(file.file_name().unwrap().to_str().unwrap()) && said.contains("is damaged"), "{said}");
    }
}

#[test]
fn a_database_that_lost_its_beginning_is_not_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let db = LogDb::open(dir.path()).unwrap();
    append_wait(&db, rows(0..3)).unwrap();
    drop(db);
    std::fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let said = LogDb::open(dir.path()).err().unwrap().to_string();
    assert!(said.contains("CURRENT is damaged (it is missing)"), "{said}");
}

#[test]
fn automatic_resume_is_off() {
    // The written options file is RocksDB's own account of what it runs with.
    let dir = tempfile::tempdir().unwrap();
    let _db = LogDb::open(dir.path()).unwrap();
    let file = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .find(|p| p.file_name().unwrap().to_string_lossy().starts_with("OPTIONS"))
        .unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    for line in
        ["max_bgerror_resume_count=0", "paranoid_checks=true", "wal_recovery_mode=kTolerateCorruptedTailRecords"]
    {
        assert!(text.contains(line), "{line} is missing");
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append(usize),
    Truncate(u64),
    Purge(u64),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0_usize..6).prop_map(Op::Append),
        2 => (0_u64..40).prop_map(Op::Truncate),
        2 => (0_u64..40).prop_map(Op::Purge),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_an_ordered_map(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let mut db = LogDb::open(dir.path()).unwrap();
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut purged: Option<u64> = None;
        let mut version = 0_u64;
        for op in ops {
            match op {
                Op::Append(n) => {
                    let from = model.last_key_value().map(|(k, _)| k + 1).or(purged.map(|p| p + 1)).unwrap_or(0);
                    version += 1;
                    let new: Vec<_> = (from..from + n as u64).map(|i| (i, format!("{i} v{version}").into_bytes())).collect();
                    append_wait(&db, new.clone()).unwrap();
                    model.extend(new);
                }
                Op::Truncate(at) if purged.is_some_and(|p| at <= p) => prop_assert!(db.truncate_from(at).is_err()),
                Op::Truncate(at) => {
                    db.truncate_from(at).unwrap();
                    model.retain(|k, _| *k < at);
                }
                Op::Purge(at) => {
                    db.purge_to(at, &at.to_le_bytes()).unwrap();
                    if purged.is_none_or(|p| at > p) {
                        purged = Some(at);
                    }
                    model.retain(|k, _| *k > at);
                }
                Op::Reopen => {
                    drop(db);
                    db = LogDb::open(dir.path()).unwrap();
                }
            }
            prop_assert_eq!(all(&db), model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(db.first(), model.first_key_value().map(|(k, _)| *k));
            prop_assert_eq!(db.last(), model.last_key_value().map(|(k, _)| *k));
            prop_assert_eq!(db.purged().unwrap(), purged.map(|p| (p, p.to_le_bytes().to_vec())));
        }
    }
}
