//! The engine as a whole against a slow plain twin, under random batches, crashes, replays and interleavings.

mod models;
mod shop;
mod stream;
mod twin;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use stream::Stream;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// Whatever the batches, the crashes and the order in which partitions are heard: each pane is sealed once, and says
    /// what a plain count over the same records says.
    #[test]
    fn sealed_panes_are_those_of_the_twin(seed: u64, partitions in 1_usize..5, crashes: bool) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let shop = shop::events(&mut random, partitions);
        let mut stream = Stream::new(&shop);
        stream.run(&mut random, crashes);
        let expected = twin::panes(&shop);
        prop_assert_eq!(stream.sealed(), &expected.panes);
        prop_assert_eq!(stream.late(), expected.late);
        prop_assert_eq!(stream.duplicates(), expected.duplicates);
        stream.check_lives_of_panes();
    }
}

/// The draws above do reach what they are about.
#[test]
fn the_random_shops_have_late_events_duplicates_and_corrections() {
    let (mut late, mut duplicates, mut corrected) = (0, 0, 0);
    for seed in 0..20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let shop = shop::events(&mut random, 3);
        let mut stream = Stream::new(&shop);
        stream.run(&mut random, true);
        late += stream.late();
        duplicates += stream.duplicates();
        corrected += stream.corrected();
    }
    assert!(late > 20 && duplicates > 20 && corrected > 20, "{late} late, {duplicates} duplicates, {corrected} corrected");
}
