//! Sets of ids that fit in memory for millions of them.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};
use xxhash_rust::xxh3::xxh3_128;

/// Ids by their 128-bit hash: that two of a hundred million ids share one has a chance of 1 in 10²².
#[derive(Clone, Debug, Default)]
pub struct IdSet(HashSet<u128, BuildHasherDefault<AlreadyHashed>>);

impl IdSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an id; false when it was there.
    pub fn insert(&mut self, id: &str) -> bool {
        self.0.insert(xxh3_128(id.as_bytes()))
    }

    /// Whether the id is in the set. Ids are text: `01` is not `1`, and `a` not `A`.
    pub fn contains(&self, id: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&xxh3_128(id.as_bytes()))
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert_hash(&mut self, hash: u128) -> bool {
        self.0.insert(hash)
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if !self.0.is_empty() {
            self.0.remove(&xxh3_128(id.as_bytes()));
        }
    }
}

impl<'a> FromIterator<&'a str> for IdSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(ids: I) -> Self {
        let mut set = Self::new();
        set.extend(ids);
        set
    }
}

impl<'a> Extend<&'a str> for IdSet {
    fn extend<I: IntoIterator<Item = &'a str>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

/// Takes a hash for the hash of itself.
#[derive(Clone, Copy, Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text() {
        let mut ids: IdSet = ["01", "a"].into_iter().collect();
        assert!(ids.contains("01") && !ids.contains("1") && !ids.contains("A"));
        assert!(!ids.insert("a") && ids.insert("b"));
        ids.remove("b");
        assert_eq!(ids.len(), 2);
    }
}
