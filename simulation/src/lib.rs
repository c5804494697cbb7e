//! The engine as a whole from one seed: random shops, batches, interleavings, crashes and replays, against a slow twin.
//!
//! In: a seed. Out: a verdict, and the seed when it is bad.
//! Never: touches a disk, a network or a clock.

mod models;
mod shop;
mod stream;
mod twin;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{any::Any, ops::AddAssign, panic};
use stream::Stream;

/// What happened in a run, so that one can see that the draws reach what they are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Happened {
    pub events: u64,
    pub late: u64,
    pub duplicates: u64,
    pub corrected: u64,
    pub sealed: u64,
}

impl AddAssign for Happened {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.corrected += other.corrected;
        self.sealed += other.sealed;
    }
}

/// Runs one shop through workers and a merger, half of the time with crashes, and checks: each pane is sealed once and
/// says what a plain count over the same records says; late events and duplicates are counted as the twin counts them;
/// in the store every pane ends sealed.
///
/// # Errors
/// With what does not hold. The same seed gives the same error.
pub fn check(seed: u64) -> Result<Happened, String> {
    panic::catch_unwind(|| compare(seed)).unwrap_or_else(|cause| Err(told(cause.as_ref())))
}

fn compare(seed: u64) -> Result<Happened, String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let partitions = random.random_range(1..5);
    let crashes = random.random_bool(0.5);
    let shop = shop::events(&mut random, partitions);
    let mut stream = Stream::new(&shop);
    stream.run(&mut random, crashes);
    let expected = twin::panes(&shop);
    if *stream.sealed() != expected.panes {
        let missing: Vec<_> = expected.panes.difference(stream.sealed()).take(5).collect();
        let wrong: Vec<_> = stream.sealed().difference(&expected.panes).take(5).collect();
        return Err(format!("the twin has {missing:?}, the stream has {wrong:?}"));
    }
    if (stream.late(), stream.duplicates()) != (expected.late, expected.duplicates) {
        let found = (stream.late(), stream.duplicates());
        return Err(format!("late and duplicates are {found:?}, the twin has {expected:?}"));
    }
    stream.check_lives_of_panes();
    Ok(Happened {
        events: shop.iter().map(|partition| partition.len() as u64).sum(),
        late: expected.late,
        duplicates: expected.duplicates,
        corrected: stream.corrected(),
        sealed: expected.panes.len() as u64,
    })
}

fn told(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_panes_are_those_of_the_twin() {
        let mut all = Happened::default();
        for seed in 0..300 {
            all += check(seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        }
        assert!(all.late > 300 && all.duplicates > 300 && all.corrected > 300, "the shops are too tame: {all:?}");
    }
}
