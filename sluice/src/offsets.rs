//! Sets of offsets as ranges: small, whatever the number of offsets, when those came about in their order.

/// Ranges that are kept before they are put in order for the first time.
const RUNS_MAX: usize = 1 << 20;

/// Offsets as they are read, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetReader {
    /// First and last of each run, in the order of reading.
    runs: Vec<(i64, i64)>,
    doubles: Vec<(i64, i64)>,
    /// Runs that were left when they were put in order last.
    left: usize,
}

impl OffsetReader {
    /// Takes one more.
    pub fn push(&mut self, offset: i64) {
        match self.runs.last_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => {
                if self.runs.len() >= RUNS_MAX.max(2 * self.left) {
                    self.put_in_order();
                    self.left = self.runs.len();
                }
                self.runs.push((offset, offset));
            }
        }
    }

    /// Takes what another reader has read.
    pub fn extend(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.doubles.extend(other.doubles);
    }

    fn put_in_order(&mut self) {
        self.runs.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(self.runs.len());
        for (first, last) in std::mem::take(&mut self.runs) {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => {
                    self.doubles.push((first, last.min(*end)));
                    *end = last.max(*end);
                }
                Some((_, end)) if first == *end + 1 => *end = last,
                _ => merged.push((first, last)),
            }
        }
        self.runs = merged;
    }

    /// The set, and what came more than once.
    pub fn finish(mut self) -> (Offsets, Offsets) {
        self.put_in_order();
        let mut doubles = Self { runs: std::mem::take(&mut self.doubles), ..Self::default() };
        // What came three times is twice a double.
        doubles.put_in_order();
        (Offsets(self.runs), Offsets(doubles.runs))
    }
}

/// A set of offsets: ranges in order, first and last of each, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets(Vec<(i64, i64)>);

impl Offsets {
    pub fn first(&self) -> Option<i64> {
        self.0.first().map(|(first, _)| *first)
    }

    pub fn last(&self) -> Option<i64> {
        self.0.last().map(|(_, last)| *last)
    }

    pub fn len(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, offset: i64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= offset);
        after > 0 && self.0[after - 1].1 >= offset
    }

    /// Those up to and with `offset`.
    pub fn upto(&self, offset: i64) -> Self {
        let ranges = self.0.iter().filter(|(first, _)| *first <= offset);
        Self(ranges.map(|(first, last)| (*first, (*last).min(offset))).collect())
    }

    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.0
    }

    /// Those above `offset`.
    pub fn above(&self, offset: i64) -> Self {
        let ranges = self.0.iter().filter(|(_, last)| *last > offset);
        Self(ranges.map(|(first, last)| ((*first).max(offset + 1), *last)).collect())
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut reader = OffsetReader { runs: [&self.0[..], &other.0[..]].concat(), ..OffsetReader::default() };
        reader.put_in_order();
        Self(reader.runs)
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some((a_first, a_last)), Some((b_first, b_last))) = (a.peek(), b.peek()) {
            let (first, last) = (*a_first.max(b_first), *a_last.min(b_last));
            if first <= last {
                both.push((first, last));
            }
            if a_last < b_last {
                a.next()
            } else {
                b.next()
            };
        }
        Self(both)
    }

    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for (first, last) in &self.0 {
            let mut from = *first;
            while let Some((cut_first, cut_last)) = cuts.peek().copied().filter(|(cut_first, _)| cut_first <= last) {
                if *cut_first > from {
                    left.push((from, cut_first - 1));
                }
                from = from.max(cut_last + 1);
                if cut_last >= last {
                    break;
                }
                cuts.next();
            }
            if from <= *last {
                left.push((from, *last));
            }
        }
        Self(left)
    }

    /// What is missing from `from` to the last one.
    pub fn gaps_from(&self, from: i64) -> Self {
        let Some(last) = self.last().filter(|last| *last >= from) else { return Self::default() };
        Self(vec![(from, last)]).minus(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, BTreeSet};

    fn listed(offsets: &Offsets) -> BTreeSet<i64> {
        offsets.ranges().iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    fn read(offsets: &[i64]) -> (Offsets, Offsets) {
        let mut reader = OffsetReader::default();
        offsets.iter().for_each(|o| reader.push(*o));
        reader.finish()
    }

    #[test]
    fn ranges_are_what_plain_sets_are() {
        for seed in 0..2_000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = || -> Vec<i64> {
                let mut all: Vec<i64> = (0..random.random_range(0..40)).filter(|_| random.random_bool(0.7)).collect();
                for _ in 0..random.random_range(0..4) {
                    if let Some(again) = all.first().copied() {
                        all.push(again);
                    }
                }
                if random.random_bool(0.5) {
                    all.shuffle(&mut random);
                }
                all
            };
            let (one, two) = (drawn(), drawn());
            let ((a, doubles), (b, _)) = (read(&one), read(&two));
            let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
            one.iter().for_each(|o| *counts.entry(*o).or_default() += 1);
            let (sa, sb): (BTreeSet<i64>, BTreeSet<i64>) = (one.into_iter().collect(), two.into_iter().collect());
            assert_eq!(listed(&a), sa, "SEED={seed}");
            let twice: BTreeSet<i64> = counts.iter().filter(|(_, n)| **n > 1).map(|(o, _)| *o).collect();
            assert_eq!(listed(&doubles), twice, "SEED={seed}");
            assert_eq!(listed(&a.union(&b)), &sa | &sb, "SEED={seed}");
            assert_eq!(listed(&a.intersection(&b)), &sa & &sb, "SEED={seed}");
            assert_eq!(listed(&a.minus(&b)), &sa - &sb, "SEED={seed}");
            assert_eq!(a.len(), sa.len() as i64, "SEED={seed}");
            let above: BTreeSet<i64> = sa.iter().copied().filter(|o| *o > 7).collect();
            assert_eq!(listed(&a.above(7)), above, "SEED={seed}");
            let upto: BTreeSet<i64> = sa.iter().copied().filter(|o| *o <= 7).collect();
            assert_eq!(listed(&a.upto(7)), upto, "SEED={seed}");
            assert!((0..50).all(|o| a.contains(o) == sa.contains(&o)), "SEED={seed}");
            let last = sa.last().copied().unwrap_or(-1);
            let missing: BTreeSet<i64> = (3..=last).filter(|o| !sa.contains(o)).collect();
            assert_eq!(listed(&a.gaps_from(3)), missing, "SEED={seed}");
        }
    }
}
