//! The batch side of the same simulated world: its customers and what they bought, as two CSV files.

use crate::{
    ProducerError,
    simulate::{COUNTRIES, Rhythm, SEGMENTS, World, customer_text, product_text},
};
use chrono::{DateTime, NaiveDate, SecondsFormat};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

const DAY_MILLIS: i64 = 86_400_000;

/// What to write. The same settings give the same files; with the seed, customers and products of a simulation, the ids
/// are those of its events.
#[derive(Clone, Debug, PartialEq)]
pub struct ShopFilesConfig {
    /// Fixes every draw.
    pub seed: u64,
    /// Rows of `clients.csv`.
    pub clients: u32,
    /// Rows of `achats.csv`.
    pub purchases: u64,
    /// Products of the shop.
    pub products: u32,
    /// Day of the first purchases.
    pub first_day: NaiveDate,
    /// Days with purchases.
    pub days: u32,
}

impl ShopFilesConfig {
    fn check(&self) -> Result<(), ProducerError> {
        let sizes =
            [("clients", u64::from(self.clients)), ("products", self.products.into()), ("days", self.days.into())];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((key, _)) => Err(ProducerError::Knob { key, problem: "is 0; give at least 1".into() }),
            None => Ok(()),
        }
    }

    fn first_millis(&self) -> i64 {
        self.first_day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()
    }
}

/// Writes `clients.csv` (id_client, nom, email, date_inscription, pays) and `achats.csv` (id_achat, id_client,
/// date_achat, montant, produit; by day) into an existing folder. Each file is whole or not there.
///
/// # Errors
/// When a setting is 0 or the disk refuses.
pub fn write_shop_files(dir: &Path, config: &ShopFilesConfig) -> Result<(), ProducerError> {
    config.check()?;
    let world = World::new(config.seed, config.clients, config.products);
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed ^ 0x5_4091);
    write_whole(&dir.join("clients.csv"), |out| write_clients(&world, config, &mut rng, out))?;
    write_whole(&dir.join("achats.csv"), |out| write_purchases(&world, config, &mut rng, out))
}

fn write_clients(world: &World, config: &ShopFilesConfig, rng: &mut ChaCha8Rng, out: impl Write) -> csv::Result<()> {
    let mut rows = csv::Writer::from_writer(out);
    rows.write_record(["id_client", "nom", "email", "date_inscription", "pays"])?;
    for customer in world.customers() {
        // Everybody signed up within the year before the first purchases.
        let joined = config.first_millis() - rng.random_range(0..365) * DAY_MILLIS;
        let number = customer.number;
        let country = COUNTRIES[usize::from(customer.country)].code;
        rows.write_record([
            customer_text(number),
            format!("Client {number:07}"),
            format!("client.{number:07}@example.com"),
            moment(joined)[..10].to_owned(),
            country.to_owned(),
        ])?;
    }
    Ok(rows.flush()?)
}

fn write_purchases(world: &World, config: &ShopFilesConfig, rng: &mut ChaCha8Rng, out: impl Write) -> csv::Result<()> {
    let customers = world.customers();
    let buys = |segment: u8| SEGMENTS[usize::from(segment)].activity * f64::from(SEGMENTS[usize::from(segment)].pay);
    let weights = customers.iter().map(|c| buys(c.segment)).collect();
    let buyers = WeightedAliasIndex::new(weights).expect("a checked config has a customer, and all segments buy");
    let rhythm = Rhythm::new();
    let mut rows = csv::Writer::from_writer(out);
    rows.write_record(["id_achat", "id_client", "date_achat", "montant", "produit"])?;
    for number in 0..config.purchases {
        let customer = customers[buyers.sample(rng)];
        let day = (u128::from(number) * u128::from(config.days) / u128::from(config.purchases)) as i64;
        let day_start = config.first_millis() + day * DAY_MILLIS;
        // A time of the day by rejection: the busier the hour, the likelier.
        let time = loop {
            let time = day_start + rng.random_range(0..DAY_MILLIS);
            if rng.random::<f64>() * 2.5 < rhythm.at(usize::from(customer.country), time) {
                break time;
            }
        };
        let product = world.catalogue.pick(rng);
        let cents = world.catalogue.price_cents(product, customer.country) * rng.random_range(1..=2);
        rows.write_record([
            format!("A{:09}", number + 1),
            customer_text(customer.number),
            moment(time),
            format!("{}.{:02}", cents / 100, cents % 100),
            product_text(product),
        ])?;
    }
    Ok(rows.flush()?)
}

fn moment(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> csv::Result<()>) -> Result<(), ProducerError> {
    let partial = path.with_extension("csv.partial");
    let written = File::create(&partial).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out).map_err(io::Error::other)?;
        out.flush()?;
        fs::rename(&partial, path)
    });
    written.map_err(|source| ProducerError::Write { path: path.to_owned(), source })
}
