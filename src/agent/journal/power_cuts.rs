//! Images of a power cut: what was not synced yet may be lost in any sector, or be as long as the file ever was.
//!
//! Invariant: a journal that is opened again has all that was promised, and of the record under way all or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const SECTOR: usize = 512;

/// Records that were synced, and a last one over several sectors of which nothing is.
const PROMISED: [&str; 3] = ["first", "second", "third"];

fn last() -> String {
    "the last record ".repeat(66)
}

fn written(path: &Path) -> (Vec<u8>, usize) {
    let (mut journal, _) = Journal::open::<String>(path).unwrap();
    for text in PROMISED {
        journal.append(&text).unwrap();
    }
    let promised = fs::metadata(path).unwrap().len();
    journal.append(&last()).unwrap();
    (fs::read(path).unwrap(), usize::try_from(promised).unwrap())
}

/// What is read of an image; it goes on from there, and a second reader finds the same.
fn read(path: &Path, image: &[u8]) -> Vec<String> {
    fs::write(path, image).unwrap();
    let (mut journal, found) = Journal::open::<String>(path).unwrap();
    journal.append(&"after the cut").unwrap();
    drop(journal);
    let mut again = Journal::open::<String>(path).unwrap().1;
    assert_eq!(again.pop().as_deref(), Some("after the cut"));
    assert_eq!(again, found);
    found
}

/// Every way in which the sectors from `from` on may be lost, by what stands there then. What was written before stays.
fn torn(whole: &[u8], from: usize) -> Vec<Vec<u8>> {
    let sectors: Vec<usize> = (from / SECTOR..whole.len().div_ceil(SECTOR)).collect();
    assert!((3..8).contains(&sectors.len()), "{sectors:?}");
    let mut images = Vec::new();
    for lost in 1..1_usize << sectors.len() {
        for change in [(|_| 0) as fn(u8) -> u8, |_| 0xa5, |byte| byte ^ 1] {
            let mut image = whole.to_vec();
            for (_, sector) in sectors.iter().enumerate().filter(|(n, _)| lost >> n & 1 == 1) {
                let part = (sector * SECTOR).max(from)..((sector + 1) * SECTOR).min(whole.len());
                image[part].iter_mut().for_each(|byte| *byte = change(*byte));
            }
            images.push(image);
        }
    }
    images
}

#[test]
fn whatever_a_power_cut_leaves_of_the_last_record_all_that_was_promised_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (whole, promised) = written(&path);
    let mut all = PROMISED.map(str::to_owned).to_vec();
    for length in promised..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(Journal::open::<String>(&path).unwrap().1, all, "{length} of {} bytes", whole.len());
    }
    for length in (promised..whole.len()).step_by(31) {
        // The size may have grown before the bytes came.
        let mut grown = whole[..length].to_vec();
        grown.resize(whole.len() + SECTOR, 0);
        assert_eq!(read(&path, &grown), all, "{length} of {} bytes and zeros", whole.len());
    }
    for (n, image) in torn(&whole, promised).iter().enumerate() {
        assert_eq!(read(&path, image), all, "image {n}");
    }
    all.push(last());
    let mut grown = whole.clone();
    grown.resize(whole.len() + SECTOR, 0);
    assert_eq!((read(&path, &whole), read(&path, &grown)), (all.clone(), all));
}

#[test]
fn a_power_cut_in_a_compaction_leaves_the_old_records_or_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let new = path.with_extension("new");
    let (old, _) = written(&path);
    let mut before = PROMISED.map(str::to_owned).to_vec();
    before.push(last());
    let folded = [last()];
    Journal::open::<String>(&path).unwrap().0.compact(&folded).unwrap();
    let compacted = fs::read(&path).unwrap();
    // Not renamed yet: the new file may be of any length, and have lost any sector.
    let lengths = (0..=compacted.len()).step_by(37).map(|length| compacted[..length].to_vec());
    for image in lengths.chain(torn(&compacted, 0)) {
        fs::write(&new, &image).unwrap();
        assert_eq!(read(&path, &old), before);
        // The next compaction is not misled by what lies there.
        fs::write(&path, &old).unwrap();
        fs::write(&new, &image).unwrap();
        Journal::open::<String>(&path).unwrap().0.compact(&folded).unwrap();
        assert_eq!(fs::read(&path).unwrap(), compacted);
        assert!(!new.exists());
    }
    assert_eq!(read(&path, &compacted), folded);
}
