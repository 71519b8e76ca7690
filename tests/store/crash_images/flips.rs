//! One flipped byte in every kind of file: refused, with the file's name, or without effect; never served.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{disk::Random, held, workload};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|f| f.unwrap()) {
        let (path, target) = (file.path(), to.join(file.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
        if file.is_dir() { found.extend(files(&file)) } else { found.push(file) }
    }
    found.sort();
    found
}

fn kind(file: &Path) -> &'static str {
    let name = file.file_name().unwrap().to_str().unwrap();
    match name {
        "CURRENT" => "CURRENT",
        "durable" => "mark",
        "IDENTITY" | "LOCK" | "LOG" | "slipway.lock" => "not read",
        n if n.starts_with("LOG.old") => "not read",
        n if n.starts_with("MANIFEST") => "MANIFEST",
        n if n.starts_with("OPTIONS") => "OPTIONS",
        n if n.ends_with(".log") => "write-ahead log",
        n if n.ends_with(".sst") => "table",
        n if n.ends_with(".snapshot") => "snapshot",
        n => panic!("an unknown kind of file: {n}"),
    }
}

#[test]
fn a_flipped_byte_is_refused_by_name_or_has_no_effect() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("run");
    fs::create_dir_all(&root).unwrap();
    workload::run(&root, 4).unwrap();
    let data = root.join("data");
    // As after a kill: the log holds what came since the last opening, the tables the rest.
    let log = slipway::storage::DataDir::open(&data).unwrap();
    let next = log.log().last().map_or_else(|| log.log().purged().unwrap().map_or(1, |(p, _)| p + 1), |l| l + 1);
    for i in next..next + 12 {
        let (tell, told) = std::sync::mpsc::channel();
        log.log().append(vec![(i, vec![i as u8; 300])], Box::new(move |r| tell.send(r).unwrap())).unwrap();
        told.recv().unwrap().unwrap();
    }
    let sound = base.path().join("sound");
    copy(&data, &sound);
    drop(log);
    let again = base.path().join("again");
    copy(&sound, &again);
    let truth = held(&again).unwrap();
    let mut random = Random(77);
    // kind -> refused by name, refused otherwise, without effect, forgot the last synced write
    let mut counts: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for file in files(&sound) {
        let what = kind(&file);
        let bytes = fs::read(&file).unwrap();
        for _ in 0..if bytes.is_empty() { 0 } else { 12 } {
            let at = random.below(bytes.len() as u64) as usize;
            let place = base.path().join("flipped");
            copy(&sound, &place);
            let victim = place.join(file.strip_prefix(&sound).unwrap());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << random.below(8);
            fs::write(&victim, flipped).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            let count = counts.entry(what).or_default();
            match held(&place) {
                Err(reason) if reason.contains(name) => count[0] += 1,
                Err(reason) => {
                    eprintln!("{name} at {at}: {reason}");
                    count[1] += 1;
                }
                Ok(found) if found == truth => count[2] += 1,
                Ok(found) => {
                    // The one case that cannot be told from a torn tail: the batch that was synced last.
                    let mut shorter = truth.clone();
                    shorter.entries.pop_last();
                    assert!(
                        what == "write-ahead log" && found == shorter,
                        "{name}, byte {at}: served as if nothing had happened"
                    );
                    count[3] += 1;
                }
            }
            fs::remove_dir_all(&place).unwrap();
        }
    }
    println!("kind: refused by name, refused, without effect, last write forgotten");
    counts.iter().for_each(|(kind, n)| println!("{kind}: {n:?}"));
    assert!(counts.iter().all(|(kind, n)| n[3] == 0 || *kind == "write-ahead log"));
    for must in ["CURRENT", "mark", "MANIFEST", "write-ahead log", "snapshot", "table"] {
        let n = counts.get(must).unwrap_or_else(|| panic!("no {must} was there"));
        assert!(n[0] > 0, "{must}: {n:?}");
        // RocksDB reads a table's properties before it knows which file to blame.
        assert!(n[1] == 0 || must == "table", "{must} was refused without its name");
    }
}
