//! The newest entries of the log, decoded: what was just appended is replicated and applied without being read back.
//!
//! Invariants: the entries are contiguous and end where the log ends; bounded in number and bytes; an entry is here
//! only after the database took it, and goes before the database loses it.
//!
//! Deliberately not here: durability. An entry that is readable need not be synced, here as in the database.

use std::collections::VecDeque;

use openraft::EntryPayload;

use super::types::Entry;

const MAX_ENTRIES: usize = 8192;
const MAX_BYTES: usize = 8 << 20;

/// The newest entries.
#[derive(Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
}

fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl Tail {
    fn first(&self) -> Option<u64> {
        self.entries.front().map(|e| e.log_id.index)
    }

    /// Adds what was appended to the log.
    pub(super) fn push(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let next = self.entries.back().map(|e| e.log_id.index.saturating_add(1));
            if next.is_some_and(|next| next != entry.log_id.index) {
                self.clear();
            }
            self.bytes = self.bytes.saturating_add(size(&entry));
            self.entries.push_back(entry);
        }
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            self.drop_first();
        }
    }

    /// Forgets the entry at `index` and all after it.
    pub(super) fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|e| e.log_id.index >= index) {
            let gone = self.entries.pop_back();
            self.bytes = self.bytes.saturating_sub(gone.as_ref().map_or(0, size));
        }
    }

    /// Forgets the entries up to `index`.
    pub(super) fn purge_to(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let gone = self.entries.pop_front();
        self.bytes = self.bytes.saturating_sub(gone.as_ref().map_or(0, size));
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The entries from `from` up to but without `to`, after the first at most `max_bytes` of commands; `None` when the
    /// database must be asked.
    pub(super) fn read(&self, from: u64, to: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let skip = usize::try_from(from.checked_sub(self.first()?)?).ok()?;
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let fits = |entry: &&Entry| {
            let fits = bytes == 0 || bytes.saturating_add(size(entry)) <= max_bytes;
            bytes = bytes.saturating_add(size(entry)).max(1);
            fits
        };
        Some(self.entries.iter().skip(skip).take(count).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::types::{LogId, Sealed},
        *,
    };

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry { log_id: LogId::new_term_index(1, index), payload: EntryPayload::Normal(Sealed(vec![0; bytes].into())) }
    }

    fn read(tail: &Tail, from: u64, to: u64, max: usize) -> Option<Vec<u64>> {
        tail.read(from, to, max).map(|all| all.iter().map(|e| e.log_id.index).collect())
    }

    #[test]
    fn what_is_held_is_read_and_the_rest_is_left_to_the_database() {
        let mut tail = Tail::default();
        assert_eq!(read(&tail, 1, 9, 100), None);
        tail.push((5..10).map(|i| entry(i, 10)));
        assert_eq!(read(&tail, 4, 9, 100), None);
        assert_eq!(read(&tail, 5, 8, 100), Some(vec![5, 6, 7]));
        assert_eq!(read(&tail, 8, 99, 100), Some(vec![8, 9]));
        assert_eq!(read(&tail, 10, 99, 100), Some(vec![]));
        // At least one, then as many as fit.
        assert_eq!(read(&tail, 5, 99, 1), Some(vec![5]));
        assert_eq!(read(&tail, 5, 99, 25), Some(vec![5, 6]));
    }

    #[test]
    fn truncation_purge_and_bounds_keep_it_contiguous() {
        let mut tail = Tail::default();
        tail.push((5..10).map(|i| entry(i, 10)));
        tail.truncate_from(8);
        tail.push([entry(8, 1), entry(9, 1)]);
        tail.purge_to(6);
        assert_eq!(read(&tail, 7, 99, 100), Some(vec![7, 8, 9]));
        assert_eq!(read(&tail, 6, 99, 100), None);
        assert_eq!(tail.bytes, 12);
        // After a snapshot the log goes on elsewhere.
        tail.push([entry(50, 1)]);
        assert_eq!((read(&tail, 9, 99, 100), read(&tail, 50, 99, 100)), (None, Some(vec![50])));
        tail.truncate_from(0);
        assert_eq!((tail.bytes, read(&tail, 50, 99, 100)), (0, None));
        let many = MAX_ENTRIES as u64 + 10;
        tail.push((1..=many).map(|i| entry(i, 0)));
        assert_eq!(tail.first(), Some(11));
        tail.push([entry(many + 1, MAX_BYTES), entry(many + 2, 1)]);
        assert_eq!((tail.first(), tail.bytes), (Some(many + 2), 1));
    }
}
