//! Directories of instances that are gone: the newest ones stay, as their logs say why the instances ended, and the
//! rest is removed.
//!
//! Invariants: the directory of an instance that lives, is wanted, or may be put back is never touched; one without a
//! log, which says that its program never began, takes no place of one with a log. Not here: which instances those are
//! (`reconcile`).

use std::{collections::BTreeSet, path::Path, time::SystemTime};

use super::{files, layout::InstanceDir};
use crate::model::InstanceId;

/// Directories of gone instances that a deployment keeps: so many with a log, and so many without.
pub const KEPT: usize = 8;

/// Removes all but the newest directories below `instances` that are not in `keep`; gives how many went.
pub fn remove_old(instances: &Path, keep: &BTreeSet<InstanceId>) -> std::io::Result<usize> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(instances)? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<InstanceId>().ok()) else { continue };
        if keep.contains(&id) {
            continue;
        }
        let changed = entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let began = InstanceDir::at(&entry.path()).log("out").exists();
        if began { &mut with } else { &mut without }.push((changed, id, entry.path()));
    }
    let mut removed = 0;
    for mut gone in [with, without] {
        gone.sort();
        let old = gone.len().saturating_sub(KEPT);
        for (_, _, path) in gone.iter().take(old) {
            files::remove_tree(path)?;
        }
        removed += old;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_gone_instances_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let id = |n: u64| InstanceId { index: n, ordinal: 0 };
        for n in 0..40 {
            std::fs::create_dir_all(dir.path().join(id(n).to_string()).join("run-1")).unwrap();
            if n < 20 {
                std::fs::write(dir.path().join(id(n).to_string()).join("out.log"), "").unwrap();
            }
        }
        std::fs::write(dir.path().join("something else"), "x").unwrap();
        let keep = BTreeSet::from([id(0), id(1)]);
        assert_eq!(remove_old(dir.path(), &keep).unwrap(), 38 - 2 * KEPT);
        assert_eq!(remove_old(dir.path(), &keep).unwrap(), 0);
        assert!(keep.iter().all(|id| dir.path().join(id.to_string()).is_dir()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2 + 2 * KEPT + 1);
    }
}
