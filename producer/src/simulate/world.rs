//! Who and what there is: fixed by the seed, the same for every run of it.

use super::{
    countries::COUNTRIES,
    products::Catalogue,
    segments::{ANONYMOUS, SEGMENTS},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

/// Products, and customers by country and segment.
pub(crate) struct World {
    pub(crate) catalogue: Catalogue,
    /// Customer numbers by country, then segment.
    customers: Vec<[Vec<u32>; SEGMENTS.len()]>,
    /// Per country: up to which weight each segment's customers come.
    reach: Vec<[f64; SEGMENTS.len()]>,
}

/// A customer and what is known of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customer {
    pub(crate) number: u32,
    pub(crate) country: u8,
    pub(crate) segment: u8,
}

impl World {
    pub(crate) fn new(seed: u64, customers: u32, products: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let catalogue = Catalogue::new(products, &mut rng);
        let mut world =
            Self { catalogue, customers: COUNTRIES.iter().map(|_| Default::default()).collect(), reach: Vec::new() };
        for customer in draw_customers(customers, &mut rng) {
            world.customers[usize::from(customer.country)][usize::from(customer.segment)].push(customer.number);
        }
        world.reach = world
            .customers
            .iter()
            .map(|by_segment| {
                let mut sum = 0.0;
                std::array::from_fn(|s| {
                    sum += by_segment[s].len() as f64 * SEGMENTS[s].activity;
                    sum
                })
            })
            .collect();
        world
    }

    /// A customer of the country who comes by, active ones more often; none when nobody lives there.
    pub(crate) fn customer_in(&self, country: u8, rng: &mut ChaCha8Rng) -> Option<Customer> {
        let reach = &self.reach[usize::from(country)];
        let at = rng.random::<f64>() * reach[SEGMENTS.len() - 1];
        let segment = reach.iter().position(|upto| at < *upto)?;
        let people = &self.customers[usize::from(country)][segment];
        let number = people[rng.random_range(0..people.len())];
        Some(Customer { number, country, segment: segment as u8 })
    }

    /// All customers, by number.
    pub(crate) fn customers(&self) -> Vec<Customer> {
        let mut all = Vec::new();
        for (country, by_segment) in self.customers.iter().enumerate() {
            for (segment, numbers) in by_segment.iter().enumerate() {
                let with = |&number| Customer { number, country: country as u8, segment: segment as u8 };
                all.extend(numbers.iter().map(with));
            }
        }
        all.sort_unstable_by_key(|c| c.number);
        all
    }
}

fn draw_customers(count: u32, rng: &mut ChaCha8Rng) -> impl Iterator<Item = Customer> {
    let countries = WeightedAliasIndex::new(COUNTRIES.iter().map(|c| c.share).collect()).expect("shares are above 0");
    let shares = SEGMENTS[..usize::from(ANONYMOUS)].iter().map(|s| s.share).collect();
    let segments = WeightedAliasIndex::new(shares).expect("shares are above 0");
    (1..=count).map(move |number| Customer {
        number,
        country: countries.sample(rng) as u8,
        segment: segments.sample(rng) as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shop_without_customers_has_only_strangers_and_a_big_one_has_everybody() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        assert!(World::new(1, 0, 10).customer_in(0, &mut rng).is_none());
        let world = World::new(1, 10_000, 10);
        let all = world.customers();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().enumerate().all(|(i, c)| c.number == i as u32 + 1));
        assert!((0..COUNTRIES.len() as u8).all(|c| world.customer_in(c, &mut rng).is_some()));
    }
}
