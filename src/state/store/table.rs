//! A table of State: rows behind shared pointers in a persistent map, read as if they stood there themselves.
//!
//! A published State shares all nodes of its maps with the one that goes on, so the first write to a node after that
//! copies it. Shared rows make that a copy of pointers; a row itself is copied only by the command that changes it. A
//! command changes tables in place: from [`Table::mark`] on a table notes the rows that were there, and either forgets
//! them or takes them back. Not here: what is derived from rows (`indexed`).

use std::{
    fmt,
    ops::{Index, RangeBounds},
    sync::Arc,
};

use imbl::{
    OrdMap,
    ordmap::{DiffIter, Iter},
    shared_ptr::DefaultSharedPtr,
};

/// Rows by key.
pub struct Table<K, V> {
    rows: OrdMap<K, Arc<V>>,
    /// From a mark on: each row that was written or taken out, as it was before, oldest first.
    before: Option<Before<K, V>>,
}

/// Rows as they were; `None`: there was none under this key.
pub(in crate::state) type Before<K, V> = Vec<(K, Option<Arc<V>>)>;

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self::of(self.rows.clone())
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::of(OrdMap::new())
    }
}

impl<K: Ord, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl<K, V> Table<K, V> {
    fn of(rows: OrdMap<K, Arc<V>>) -> Self {
        Self { rows, before: None }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// Notes what is changed from now on.
    pub(in crate::state) fn mark(&mut self) {
        self.before = Some(Vec::new());
    }

    /// What was changed since the mark stays.
    pub(in crate::state) fn keep(&mut self) {
        self.before = None;
    }

    /// Ends the mark; the caller puts back what it gets, the last first.
    pub(in crate::state) fn unmark(&mut self) -> Before<K, V> {
        self.before.take().unwrap_or_default()
    }

    /// The row as it was at the mark.
    pub(in crate::state) fn was(&self, key: &K) -> Option<Arc<V>> {
        let noted = self.before.iter().flatten().find(|(k, _)| k == key);
        noted.map_or_else(|| self.rows.get(key).cloned(), |(_, row)| row.clone())
    }

    fn note(&mut self, key: &K, was: Option<&Arc<V>>) {
        if let Some(before) = &mut self.before {
            before.push((key.clone(), was.cloned()));
        }
    }

    /// A row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(AsRef::as_ref)
    }

    /// Whether there is such a row.
    pub fn contains_key(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.rows.iter().map(|(k, _)| k)
    }

    /// Rows in key order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.iter().map(|(_, v)| v.as_ref())
    }

    /// Keys and rows in key order.
    pub fn iter(&self) -> Rows<'_, K, V> {
        Rows(self.rows.iter())
    }

    /// A row, to be kept without a copy.
    pub fn get_shared(&self, key: &K) -> Option<&Arc<V>> {
        self.rows.get(key)
    }

    /// Keys and rows in key order, the rows to be kept without a copy.
    pub fn shared(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.rows.iter()
    }

    /// Keys and rows of a range of keys, ascending.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(k, v)| (k, v.as_ref()))
    }

    /// The first row.
    pub fn get_min(&self) -> Option<(&K, &V)> {
        self.rows.get_min().map(|(k, v)| (k, v.as_ref()))
    }

    /// The last row.
    pub fn get_max(&self) -> Option<(&K, &V)> {
        self.rows.get_max().map(|(k, v)| (k, v.as_ref()))
    }

    /// Whether both are the same table, so that nothing changed between them; `false` says nothing.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.rows.ptr_eq(&other.rows)
    }

    /// What changed from this table to a later one; parts that both share are not looked at.
    pub fn diff<'a, 'b>(&'a self, other: &'b Self) -> DiffIter<'a, 'b, K, Arc<V>, DefaultSharedPtr> {
        self.rows.diff(&other.rows)
    }

    /// Puts a row in place of the one that had its key, which is returned.
    pub fn insert(&mut self, key: K, row: impl Into<Arc<V>>) -> Option<Arc<V>> {
        if self.before.is_none() {
            return self.rows.insert(key, row.into());
        }
        let was = self.rows.insert(key.clone(), row.into());
        self.note(&key, was.as_ref());
        was
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        let all = std::mem::take(&mut self.rows);
        if let Some(before) = &mut self.before {
            before.extend(all.into_iter().map(|(key, row)| (key, Some(row))));
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let was = self.rows.remove(key);
        if was.is_some() {
            self.note(key, was.as_ref());
        }
        was
    }

    /// Takes back what was changed since the mark.
    pub(in crate::state) fn take_back(&mut self) {
        for (key, was) in self.unmark().into_iter().rev() {
            match was {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }
}

impl<K: Ord, V> Index<&K> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.rows[key]
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        Self::of(rows.into_iter().map(|(k, v)| (k, Arc::new(v))).collect())
    }
}

/// Keys and rows in key order.
pub struct Rows<'a, K, V>(Iter<'a, K, Arc<V>, DefaultSharedPtr>);

impl<'a, K, V> Iterator for Rows<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(k, v)| (k, v.as_ref()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<'a, K: Ord + Clone, V> IntoIterator for &'a Table<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Rows<'a, K, V>;

    fn into_iter(self) -> Rows<'a, K, V> {
        self.iter()
    }
}
