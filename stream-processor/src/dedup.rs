//! Remembers event ids for a while, under a budget.

use crate::hashed::AsItIs;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// Slices of the horizon: memory is given back one slice at a time.
const SLICES: i64 = 8;

/// Tables that the ids are spread over.
const TABLES: usize = 256;
/// Numbers of slices that are told apart in the table: more than there are slices at a time.
const NUMBERS: i64 = 16;

/// An id as 88 bits of its hash (xxh3). That one id is taken for another of eight million that are remembered has a chance
/// of 3 in 10²⁰; with its slice it fills 12 bytes, and small slots are what makes a large table quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IdHash([u8; 11]);

impl From<u128> for IdHash {
    fn from(hash: u128) -> Self {
        let bytes = hash.to_le_bytes();
        let mut id = [0; 11];
        id.copy_from_slice(&bytes[..11]);
        Self(id)
    }
}

impl IdHash {
    /// Which table it is in: by bits that its place in there does not depend on.
    fn table(self) -> usize {
        usize::from(self.0[8])
    }
}

impl Hash for IdHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// The ids seen in one partition, within a horizon of event time and a number of ids.
///
/// What is remembered depends on nothing but the events observed, in their order.
#[derive(Debug)]
pub struct Dedup {
    slice_millis: i64,
    ids_max: usize,
    /// Of each id, its slice of event time modulo [`NUMBERS`], in the table that its hash says. A table that grows moves
    /// all it has: many small ones do that one by one, and within the processor's cache.
    seen: Vec<HashMap<IdHash, u8, BuildHasherDefault<AsItIs>>>,
    len: usize,
    /// How many ids there are of each slice.
    slices: BTreeMap<i64, usize>,
    newest: Option<i64>,
    /// The slice that ids came for last, its bounds, and how many of them are not in `slices` yet.
    current: Current,
}

#[derive(Debug, Default)]
struct Current {
    slice: i64,
    from: i64,
    to: i64,
    count: usize,
}

/// What a checkpoint keeps: the ids of each slice.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedDedup {
    slice_millis: i64,
    newest: Option<i64>,
    slices: Vec<(i64, Vec<IdHash>)>,
}

fn number(slice: i64) -> u8 {
    slice.rem_euclid(NUMBERS) as u8
}

impl Dedup {
    /// Remembers ids for `horizon_millis` of event time, and `ids_max` of them at most.
    pub fn new(horizon_millis: i64, ids_max: usize) -> Self {
        Self {
            slice_millis: (horizon_millis / SLICES).max(1),
            ids_max: ids_max.max(1),
            seen: (0..TABLES).map(|_| HashMap::default()).collect(),
            len: 0,
            slices: BTreeMap::new(),
            newest: None,
            current: Current::default(),
        }
    }

    /// Whether the id is new; from now on it is not. A duplicate is one whatever event time it carries.
    pub fn is_new(&mut self, id: u128, event_time: i64) -> bool {
        let id = IdHash::from(id);
        let slice = match self.current.from <= event_time && event_time < self.current.to {
            true => self.current.slice,
            false => self.enter(event_time),
        };
        let slice = match self.newest {
            // What is past the horizon is remembered until event time goes on.
            Some(newest) if slice <= newest => slice.max(newest - SLICES - 1),
            // Only a new id makes a new slice.
            _ if self.seen[id.table()].contains_key(&id) => return false,
            _ => {
                self.newest = Some(slice);
                self.settle();
                self.forget(|oldest, _| oldest < slice - SLICES);
                slice
            }
        };
        match self.seen[id.table()].entry(id) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(entry) => drop(entry.insert(number(slice))),
        }
        match slice == self.current.slice {
            true => self.current.count += 1,
            false => *self.slices.entry(slice).or_default() += 1,
        }
        self.len += 1;
        if self.len > self.ids_max {
            self.settle();
            let ids_max = self.ids_max;
            self.forget(|_, len| len > ids_max);
        }
        true
    }

    /// Makes the slice of this time the current one.
    fn enter(&mut self, event_time: i64) -> i64 {
        self.settle();
        let slice = event_time.div_euclid(self.slice_millis);
        let from = slice.saturating_mul(self.slice_millis);
        self.current = Current { slice, from, to: from.saturating_add(self.slice_millis), count: 0 };
        slice
    }

    /// Brings `slices` up to date.
    fn settle(&mut self) {
        if self.current.count > 0 {
            *self.slices.entry(self.current.slice).or_default() += std::mem::take(&mut self.current.count);
        }
    }

    /// Looks the ids up, for nothing but to have their places near when [`Dedup::is_new`] asks for them one after the
    /// other: the processor waits for many places at once, and not for each in turn.
    pub fn expect(&self, ids: &[u128]) -> usize {
        let is_known = |id: &&u128| {
            let id = IdHash::from(**id);
            self.seen[id.table()].contains_key(&id)
        };
        ids.iter().filter(is_known).count()
    }

    /// Drops the oldest slices as long as `gone` says so; the newest stays.
    fn forget(&mut self, gone: impl Fn(i64, usize) -> bool) {
        let mut left = self.len;
        let mut numbers = [false; NUMBERS as usize];
        let mut is_any = false;
        while let Some(oldest) = self.slices.first_entry() {
            if Some(*oldest.key()) == self.newest || !gone(*oldest.key(), left) {
                break;
            }
            numbers[usize::from(number(*oldest.key()))] = true;
            is_any = true;
            left -= oldest.remove();
        }
        if is_any {
            self.seen.iter_mut().for_each(|table| table.retain(|_, slice| !numbers[usize::from(*slice)]));
            self.len = left;
        }
    }

    pub(crate) fn save(&mut self) -> SavedDedup {
        self.settle();
        let mut slices: Vec<(i64, Vec<IdHash>)> =
            self.slices.iter().map(|(slice, count)| (*slice, Vec::with_capacity(*count))).collect();
        let mut place = [0; NUMBERS as usize];
        for (at, (slice, _)) in slices.iter().enumerate() {
            place[usize::from(number(*slice))] = at;
        }
        for (id, slice) in self.seen.iter().flatten() {
            slices[place[usize::from(*slice)]].1.push(*id);
        }
        SavedDedup { slice_millis: self.slice_millis, newest: self.newest, slices }
    }

    /// Goes on with the ids that a checkpoint kept, whose slices may have been of another length.
    pub(crate) fn restore(&mut self, saved: SavedDedup) {
        let renamed = |slice: i64| slice.saturating_mul(saved.slice_millis).div_euclid(self.slice_millis);
        self.newest = saved.newest.map(renamed);
        self.slices.clear();
        self.current = Current::default();
        self.seen.iter_mut().for_each(HashMap::clear);
        self.len = saved.slices.iter().map(|(_, ids)| ids.len()).sum();
        for (slice, ids) in saved.slices {
            let slice = renamed(slice).max(self.newest.map_or(i64::MIN, |newest| newest - SLICES - 1));
            *self.slices.entry(slice).or_default() += ids.len();
            for id in ids {
                self.seen[id.table()].insert(id, number(slice));
            }
        }
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        // A slot of the table is an id, its slice and a byte; a table doubles when seven eighths are taken.
        self.seen.iter().map(HashMap::capacity).sum::<usize>() * 8 / 7 * (size_of::<(IdHash, u8)>() + 1)
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn an_id_is_new_once_within_the_horizon() {
        let mut dedup = Dedup::new(8_000, 1_000);
        assert!(dedup.is_new(1, 0));
        assert!(!dedup.is_new(1, 500));
        assert!(!dedup.is_new(1, 7_999));
        assert!(dedup.is_new(2, 9_000));
        assert!(dedup.is_new(1, 9_000), "its slice is past the horizon");
        assert_eq!(dedup.len(), 2);
    }

    #[test]
    fn the_oldest_ids_go_when_the_budget_is_spent() {
        let mut dedup = Dedup::new(8_000, 10);
        for id in 0..100 {
            assert!(dedup.is_new(id, id as i64 * 79));
            assert!(dedup.len() <= 10 + 13, "one slice may be over the budget, no more");
        }
        assert!(!dedup.is_new(99, 99 * 79));
    }

    /// The same, with a list of all that was ever observed.
    struct Twin {
        slice_millis: i64,
        ids_max: usize,
        kept: Vec<(u128, i64)>,
        newest: Option<i64>,
    }

    impl Twin {
        fn is_new(&mut self, id: u128, time: i64) -> bool {
            if self.kept.iter().any(|(known, _)| *known == id) {
                return false;
            }
            let slice = time.div_euclid(self.slice_millis);
            match self.newest {
                Some(newest) if slice <= newest => self.kept.push((id, slice.max(newest - SLICES - 1))),
                _ => {
                    self.newest = Some(slice);
                    self.kept.retain(|(_, kept)| *kept >= slice - SLICES);
                    self.kept.push((id, slice));
                }
            }
            while self.kept.len() > self.ids_max {
                let oldest = self.kept.iter().map(|(_, slice)| *slice).min().unwrap();
                if Some(oldest) == self.newest {
                    break;
                }
                self.kept.retain(|(_, slice)| *slice > oldest);
            }
            true
        }
    }

    #[test]
    fn it_says_what_a_plain_list_says_through_checkpoints_too() {
        for seed in 0..200 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (horizon, ids_max) = (random.random_range(8..8_000), random.random_range(1..60));
            let mut dedup = Dedup::new(horizon, ids_max);
            let mut twin = Twin { slice_millis: (horizon / SLICES).max(1), ids_max, kept: Vec::new(), newest: None };
            let mut now = random.random_range(-5_000..1_000_000);
            for step in 0..400 {
                now += random.random_range(0..horizon / 4 + 2);
                let (id, time) = (random.random_range(0..80), now - random.random_range(0..horizon * 2));
                assert_eq!(dedup.is_new(id, time), twin.is_new(id, time), "seed {seed}, step {step}");
                assert_eq!(dedup.len(), twin.kept.len(), "seed {seed}, step {step}");
                if random.random_bool(0.05) {
                    let saved = dedup.save();
                    dedup = Dedup::new(horizon, ids_max);
                    dedup.restore(saved);
                }
            }
        }
    }
}
