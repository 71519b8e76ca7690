//! A table of State: rows behind shared pointers in a persistent map, read as if they stood there themselves.
//!
//! A command works on a draft that shares all nodes of the map with the State before it, so every write copies the
//! nodes on its path. Shared rows make that a copy of pointers; a row itself is copied only by the command that changes
//! it. Not here: what is derived from rows (`indexed`).

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
pub struct Table<K, V>(OrdMap<K, Arc<V>>);

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// A row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// Whether there is such a row.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(k, _)| k)
    }

    /// Rows in key order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, v)| v.as_ref())
    }

    /// Keys and rows in key order.
    pub fn iter(&self) -> Rows<'_, K, V> {
        Rows(self.0.iter())
    }

    /// Keys and rows in key order, the rows to be kept without a copy.
    pub fn shared(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.0.iter()
    }

    /// Keys and rows of a range of keys, ascending.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.range(range).map(|(k, v)| (k, v.as_ref()))
    }

    /// The first row.
    pub fn get_min(&self) -> Option<(&K, &V)> {
        self.0.get_min().map(|(k, v)| (k, v.as_ref()))
    }

    /// The last row.
    pub fn get_max(&self) -> Option<(&K, &V)> {
        self.0.get_max().map(|(k, v)| (k, v.as_ref()))
    }

    /// What changed from this table to a later one; parts that both share are not looked at.
    pub fn diff<'a, 'b>(&'a self, other: &'b Self) -> DiffIter<'a, 'b, K, Arc<V>, DefaultSharedPtr> {
        self.0.diff(&other.0)
    }

    /// Puts a row in place of the one that had its key, which is returned.
    pub fn insert(&mut self, key: K, row: impl Into<Arc<V>>) -> Option<Arc<V>> {
        self.0.insert(key, row.into())
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.0.remove(key)
    }
}

impl<K: Ord, V> Index<&K> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        Self(rows.into_iter().map(|(k, v)| (k, Arc::new(v))).collect())
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
