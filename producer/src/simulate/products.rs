//! What the shop sells.

use super::countries::COUNTRIES;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, weighted::WeightedAliasIndex};

/// A category of products: name, share of the products in percent, median price in euro cents.
pub(crate) const CATEGORIES: [(&str, f64, f64); 12] = [
    ("electronics.smartphone", 8.0, 42_000.0),
    ("electronics.audio", 8.0, 8_900.0),
    ("computers.notebook", 6.0, 78_000.0),
    ("computers.accessories", 10.0, 2_900.0),
    ("appliances.kitchen", 10.0, 6_900.0),
    ("furniture.living_room", 6.0, 24_900.0),
    ("apparel.shoes", 12.0, 6_500.0),
    ("apparel.women", 12.0, 3_900.0),
    ("beauty.care", 10.0, 1_700.0),
    ("kids.toys", 8.0, 2_400.0),
    ("sport.outdoor", 6.0, 5_200.0),
    ("books", 4.0, 1_500.0),
];

/// The number of the category of this name.
pub(crate) fn category_of(name: &str) -> Option<u8> {
    CATEGORIES.iter().position(|(n, _, _)| *n == name).map(|i| i as u8)
}

/// A product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) category: u8,
    euro_cents: i64,
}

/// All products, the most wanted first.
pub(crate) struct Catalogue {
    products: Vec<Product>,
    /// Product numbers by category.
    by_category: Vec<Vec<u32>>,
    wanted: WeightedAliasIndex<f64>,
}

impl Catalogue {
    pub(crate) fn new(count: u32, rng: &mut ChaCha8Rng) -> Self {
        let categories = WeightedAliasIndex::new(CATEGORIES.iter().map(|c| c.1).collect()).expect("shares are above 0");
        let spread = LogNormal::new(0.0, 0.5).expect("the spread is finite");
        let mut by_category = vec![Vec::new(); CATEGORIES.len()];
        let products = (0..count)
            .map(|number| {
                let category = categories.sample(rng);
                by_category[category].push(number);
                let raw = CATEGORIES[category].2 * spread.sample(rng);
                // Prices end in .99 or .49, as prices do.
                let euro_cents = (raw as i64 / 100).max(1) * 100 - if rng.random_bool(0.7) { 1 } else { 51 };
                Product { category: category as u8, euro_cents }
            })
            .collect();
        let zipf = (1..=count).map(|rank| 1.0 / f64::from(rank)).collect();
        let wanted = WeightedAliasIndex::new(zipf).expect("a checked config has a product");
        Self { products, by_category, wanted }
    }

    /// A product, as often as people want it.
    pub(crate) fn pick(&self, rng: &mut ChaCha8Rng) -> u32 {
        self.wanted.sample(rng) as u32
    }

    /// Any product of a category, if it has one; else any that people want.
    pub(crate) fn pick_of(&self, category: Option<u8>, rng: &mut ChaCha8Rng) -> u32 {
        match category.map(|c| &self.by_category[usize::from(c)]) {
            Some(products) if !products.is_empty() => products[rng.random_range(0..products.len())],
            _ => self.pick(rng),
        }
    }

    pub(crate) fn category(&self, product: u32) -> u8 {
        self.products[product as usize].category
    }

    /// The price in hundredths of the country's currency.
    pub(crate) fn price_cents(&self, product: u32, country: u8) -> i64 {
        let price = self.products[product as usize].euro_cents * COUNTRIES[usize::from(country)].per_euro_permille;
        (price + 500) / 1000
    }

    pub(crate) fn len(&self) -> u32 {
        self.products.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_first_product_is_wanted_about_ten_times_as_often_as_the_tenth() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let catalogue = Catalogue::new(1_000, &mut rng);
        let mut seen = vec![0_u32; 1_000];
        (0..200_000).for_each(|_| seen[catalogue.pick(&mut rng) as usize] += 1);
        let ratio = f64::from(seen[0]) / f64::from(seen[9]);
        assert!((8.0..12.5).contains(&ratio), "{ratio}");
        assert!((0..1_000).all(|p| catalogue.price_cents(p, 0) > 0));
    }
}
