//! Counts distinct values in bounded memory.
//!
//! Invariants: what is held is a function of the values that were added, in any order and any split. Up to
//! [`EXACT_MAX`] distinct values it is exact. Beyond, values are sampled by their hash, a value with all of its repeats
//! or not at all: so the *share* of repeats is that of the whole within sampling error (0.02 points for one repeat in a
//! thousand), where a HyperLogLog's error of a percent would drown it.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Distinct values that are held; beyond, half of them are kept, again and again.
pub const EXACT_MAX: usize = 1 << 16;

/// The distinct values among those added, by their hashes.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    /// Kept are hashes that begin with this many zero bits.
    level: u32,
    /// How often each kept hash was added.
    times: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
    /// How often any kept hash was added.
    kept: u64,
}

impl Distinct {
    /// Adds a value by its hash, which must be spread evenly over all bits.
    pub fn add(&mut self, hash: u64) {
        self.add_times(hash, 1);
    }

    fn add_times(&mut self, hash: u64, times: u32) {
        if hash.leading_zeros() < self.level {
            return;
        }
        let known = self.times.entry(hash).or_default();
        *known = known.saturating_add(times);
        self.kept += u64::from(times);
        while self.times.len() > EXACT_MAX {
            self.rise(self.level + 1);
        }
    }

    fn rise(&mut self, level: u32) {
        self.level = self.level.max(level);
        self.times.retain(|hash, _| hash.leading_zeros() >= self.level);
        self.kept = self.times.values().map(|times| u64::from(*times)).sum();
    }

    /// Adds all that `other` was given.
    pub fn merge(&mut self, other: &Self) {
        if other.level > self.level {
            self.rise(other.level);
        }
        for (hash, times) in &other.times {
            self.add_times(*hash, *times);
        }
    }

    /// Distinct values among `added` values: exact up to [`EXACT_MAX`], an estimate beyond.
    pub fn count(&self, added: u64) -> u64 {
        match (self.level, self.kept) {
            (0, _) => self.times.len() as u64,
            (_, 0) => added,
            (_, kept) => (added as f64 * self.times.len() as f64 / kept as f64).round() as u64,
        }
    }
}

/// Spreads keys that are hashes already, but all begin with zeros.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // An odd number near 2^64 / golden ratio: Knuth's multiplicative hashing.
        let product = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;

    fn state(distinct: &Distinct) -> (u32, u64, Vec<(u64, u32)>) {
        let mut times: Vec<_> = distinct.times.iter().map(|(hash, times)| (*hash, *times)).collect();
        times.sort_unstable();
        (distinct.level, distinct.kept, times)
    }

    #[test]
    fn any_order_and_any_split_holds_the_same_and_the_share_of_repeats_is_right() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for distinct_values in [0, 1, 1_000, EXACT_MAX, 300_000_usize] {
            let mut hashes: Vec<u64> = (0..distinct_values).map(|_| random.random()).collect();
            for _ in 0..distinct_values / 100 {
                hashes.push(hashes[random.random_range(0..distinct_values)]);
            }
            let mut whole = Distinct::default();
            hashes.iter().for_each(|hash| whole.add(*hash));
            hashes.shuffle(&mut random);
            let mut merged = Distinct::default();
            for part in hashes.chunks(hashes.len() / 3 + 1) {
                let mut of_part = Distinct::default();
                part.iter().for_each(|hash| of_part.add(*hash));
                merged.merge(&of_part);
            }
            assert_eq!(state(&whole), state(&merged), "{distinct_values}");
            let found = whole.count(hashes.len() as u64);
            if distinct_values <= EXACT_MAX {
                assert_eq!(found, distinct_values as u64);
            } else {
                let error = (found as f64 - distinct_values as f64).abs() / distinct_values as f64;
                assert!(error < 0.003, "{found} for {distinct_values}");
            }
        }
    }
}
