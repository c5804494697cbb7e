//! Numbers in place of texts.

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::common::{
    Result, exec_err,
    hash_utils::{RandomState, create_hashes},
};
use hashbrown::HashTable;
use std::sync::{Mutex, PoisonError};

/// What is noted for a row without a text.
pub(super) const NO_TEXT: u32 = u32::MAX;
/// More than the threads of a machine that ask at once.
const SHELVES: u32 = 32;
/// So many texts have room on a shelf.
const PLACES: u32 = u32::MAX / SHELVES;
/// Which bits of a text's hash say its shelf: not those by which a shelf is ordered, its lowest and its highest.
const SHELF_SHIFT: u32 = 40;
/// A view has a text of up to this length within it, and of a longer one the first bytes, after the length.
const INLINE_BYTES: usize = 12;

/// The numbers of texts, in one question, the same in all threads: on shelves by their hash, so that threads seldom wait for each
/// other. A text that comes later has a larger number, about.
#[derive(Debug)]
pub(super) struct TextNumbers {
    hasher: RandomState,
    shelves: [Mutex<Shelf>; SHELVES as usize],
}

impl Default for TextNumbers {
    fn default() -> Self {
        Self { hasher: RandomState::default(), shelves: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl TextNumbers {
    /// The number of each text (of type Utf8View), [`NO_TEXT`] where there is none; and so many bytes more than before the numbers
    /// take.
    ///
    /// # Errors
    /// When there are more texts than numbers.
    pub fn of(&self, texts: &ArrayRef) -> Result<(Vec<u32>, usize)> {
        let mut hashes = vec![0; texts.len()];
        create_hashes([texts], &self.hasher, &mut hashes)?;
        let texts = texts.as_string_view();
        // Rows by shelf, and where each shelf's rows end.
        let shelf_of = |hash: u64| (hash >> SHELF_SHIFT) as usize % SHELVES as usize;
        let mut ends = [0; SHELVES as usize];
        hashes.iter().for_each(|hash| ends[shelf_of(*hash)] += 1);
        let mut before = 0;
        for end in &mut ends {
            (*end, before) = (before, before + *end);
        }
        let mut rows = vec![0_u32; texts.len()];
        for (row, hash) in hashes.iter().enumerate() {
            let end = &mut ends[shelf_of(*hash)];
            rows[*end] = row as u32;
            *end += 1;
        }
        let (mut numbers, mut bytes, mut start) = (vec![NO_TEXT; texts.len()], 0, 0);
        for (at, end) in (0..SHELVES).zip(ends) {
            let mut shelf = self.shelves[at as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let before = shelf.bytes();
            for row in rows[start..end].iter().map(|row| *row as usize) {
                if texts.is_valid(row) {
                    numbers[row] = shelf.place_of(hashes[row], texts, row)? * SHELVES + at;
                }
            }
            bytes += shelf.bytes() - before;
            start = end;
        }
        Ok((numbers, bytes))
    }
}

/// Texts, and their places in the order in which they came.
#[derive(Debug, Default)]
struct Shelf {
    known: HashTable<Known>,
    /// By place.
    hashes: Vec<u64>,
    /// The texts that are longer than a view.
    long: Vec<u8>,
}

/// A text that has a place. It lies in the table itself, as looking further for it is what takes time; in words, so that it is small.
#[derive(Debug)]
struct Known {
    /// As Arrow's views have it; of a long text the second half says where in `long` it begins.
    view: [u32; 4],
    place: u32,
}

impl Shelf {
    /// The place of a row's text.
    fn place_of(&mut self, hash: u64, texts: &StringViewArray, row: usize) -> Result<u32> {
        let view = words(texts.views()[row]);
        let is_short = view[0] as usize <= INLINE_BYTES;
        let long = &self.long;
        let is_it = |known: &Known| match is_short {
            true => known.view == view,
            // Length and first bytes, and then all of them.
            false => known.view[..2] == view[..2] && text_at(long, known.view) == texts.value(row).as_bytes(),
        };
        if let Some(known) = self.known.find(hash, is_it) {
            return Ok(known.place);
        }
        let place = self.hashes.len() as u32;
        if place == PLACES {
            return exec_err!("there are too many texts to count");
        }
        let view = match is_short {
            true => view,
            false => {
                let start = self.long.len() as u64;
                self.long.extend_from_slice(texts.value(row).as_bytes());
                [view[0], view[1], start as u32, (start >> u32::BITS) as u32]
            }
        };
        let hashes = &self.hashes;
        self.known.insert_unique(hash, Known { view, place }, |known| hashes[known.place as usize]);
        self.hashes.push(hash);
        Ok(place)
    }

    fn bytes(&self) -> usize {
        self.known.allocation_size() + self.hashes.capacity() * size_of::<u64>() + self.long.capacity()
    }
}

/// The words of a view, the first one first.
fn words(view: u128) -> [u32; 4] {
    [0, 1, 2, 3].map(|word| (view >> (word * u32::BITS)) as u32)
}

/// The long text of a shelf's view.
fn text_at(long: &[u8], [length, _, start, start_high]: [u32; 4]) -> &[u8] {
    let start = u64::from(start) | u64::from(start_high) << u32::BITS;
    &long[start as usize..][..length as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::{
        collections::{HashMap, HashSet},
        sync::Arc,
        thread,
    };

    /// Texts of all lengths, many of them alike in length and beginning, and none.
    fn texts(random: &mut StdRng) -> Vec<Option<String>> {
        let text = |random: &mut StdRng| {
            let bytes = random.random_range(0..30);
            let of: u32 = random.random_range(0..600);
            let padded =
                format!("{}{of:03}", "é-same-beginning-for-all-of-these".chars().take(bytes).collect::<String>());
            padded.chars().skip(usize::from(random.random_bool(0.1))).collect()
        };
        (0..2_000).map(|_| random.random_bool(0.95).then(|| text(random))).collect()
    }

    #[test]
    fn a_text_has_one_number_in_all_threads_and_no_two_have_the_same() {
        for seed in 0..20 {
            let numbers = TextNumbers::default();
            let told: Vec<(Option<String>, u32)> = thread::scope(|scope| {
                let ask = |part: u64| {
                    let mut random = StdRng::seed_from_u64(seed * 8 + part);
                    let numbers = &numbers;
                    scope.spawn(move || {
                        let mut told = Vec::new();
                        for _ in 0..4 {
                            let texts = texts(&mut random);
                            let array: ArrayRef =
                                Arc::new(StringViewArray::from_iter(texts.iter().map(Option::as_deref)));
                            told.extend(texts.into_iter().zip(numbers.of(&array).unwrap().0));
                        }
                        told
                    })
                };
                let asked: Vec<_> = (0..3).map(ask).collect();
                asked.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let mut known = HashMap::new();
            for (text, number) in told {
                match text {
                    None => assert_eq!(number, NO_TEXT),
                    Some(text) => assert_eq!(*known.entry(text).or_insert(number), number, "seed {seed}"),
                }
            }
            let distinct: HashSet<u32> = known.values().copied().collect();
            assert!(distinct.len() == known.len() && !distinct.contains(&NO_TEXT), "seed {seed}");
        }
    }

    #[test]
    fn the_memory_of_numbers_is_told_once() {
        let numbers = TextNumbers::default();
        let array: ArrayRef =
            Arc::new((0..10_000).map(|at| Some(format!("a longer text, {at}"))).collect::<StringViewArray>());
        let (_, bytes) = numbers.of(&array).unwrap();
        assert!((10_000 * 40..10_000 * 200).contains(&bytes), "{bytes}");
        assert_eq!(numbers.of(&array).unwrap().1, 0);
    }
}
