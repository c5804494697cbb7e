//! A whole system from one seed: processes, mergers, partitions that change hands, stores that fail, crashes between any
//! two steps, records late, twice and damaged, silences and clocks that jump; against a slow plain twin.
//!
//! In: a seed. Out: a verdict, and the seed when it is bad.
//! Never: touches a disk, a network or a clock.

mod cluster;
mod merge;
mod models;
mod process;
mod shop;
mod store;
mod twin;

use cluster::Cluster;
pub use cluster::Happened;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{any::Any, ops::AddAssign, panic};

impl AddAssign for Happened {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
        self.sealed += other.sealed;
        self.corrected += other.corrected;
        self.retracted += other.retracted;
        self.deaths += other.deaths;
        self.rebalances += other.rebalances;
        self.fenced_or_failed += other.fenced_or_failed;
        self.idle += other.idle;
        self.lost_checkpoints += other.lost_checkpoints;
    }
}

/// Runs one shop through a cluster, more often than not a disturbed one, and checks: every record is in bronze or in the
/// dead letters, once; silver is bronze without duplicates, and says of each event whether it is late; each pane is sealed
/// once and says what a plain count says; in the store every pane ends sealed; the counts balance.
///
/// # Errors
/// With what does not hold. The same seed gives the same error.
pub fn check(seed: u64) -> Result<Happened, String> {
    panic::catch_unwind(|| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Cluster::new(&mut random).run(&mut random)
    })
    .unwrap_or_else(|cause| Err(told(cause.as_ref())))
}

fn told(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_panes_are_those_of_the_twin() {
        let seeds = std::env::var("SLUICE_SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
        let mut all = Happened::default();
        for seed in 0..seeds {
            all += check(seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        }
        let least = [
            all.late,
            all.duplicates,
            all.dead_letters,
            all.corrected,
            all.retracted,
            all.deaths,
            all.rebalances,
            all.fenced_or_failed,
            all.idle,
            all.lost_checkpoints,
        ];
        assert!(least.iter().all(|n| *n >= seeds / 4), "the shops are too tame: {all:?}");
    }
}
