//! Rows of `achats.csv` loaded a second, from bytes to bronze and silver batches.
//!
//! `cargo bench -p sluice-batch-inputs` measures; `cargo test --benches` runs the same tiny.

use sluice_batch_inputs::{AchatsReader, IdSet, InputFile, content_hash};
use sluice_events::LogTime;
use std::{
    env,
    io::{self, Read},
    sync::Arc,
    time::Instant,
};
use xxhash_rust::xxh3::xxh3_64;

fn main() {
    let rows = if env::args().any(|a| a == "--bench") { 10_000_000 } else { 1_000 };
    let known: IdSet =
        (0..100_000).map(|n| format!("C{n:07}")).collect::<Vec<_>>().iter().map(String::as_str).collect();
    let began = Instant::now();
    let file = InputFile {
        name: "achats.csv".into(),
        hash: content_hash(Purchases::new(rows)).expect("memory reads"),
        now: LogTime::new(1_800_000_000_000),
    };
    println!("generated and hashed: {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut reader = AchatsReader::new(Purchases::new(rows), file, Arc::new(known)).expect("the header serves");
    let mut result = 0;
    while let Some(loaded) = reader.next_batch().expect("memory reads") {
        for column in loaded.silver.columns().iter().chain(loaded.bronze.columns()) {
            for buffer in column.to_data().buffers() {
                result ^= xxh3_64(buffer.as_slice());
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let summary = reader.summary();
    assert!(summary.balances());
    println!("{rows} rows in {seconds:.2} s: {:.0} rows/s, {summary:?}, result {result:016x}", rows as f64 / seconds);
    println!("{:?}", reader.quality().iter().map(|c| c.passed).collect::<Vec<_>>());
}

/// The bytes of a file that is never held whole.
struct Purchases {
    row: u64,
    rows: u64,
    line: Vec<u8>,
    at: usize,
}

impl Purchases {
    fn new(rows: u64) -> Self {
        Self { row: 0, rows, line: b"id_achat,id_client,date_achat,montant,produit\n".to_vec(), at: 0 }
    }
}

impl Read for Purchases {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use io::Write;
        let mut written = 0;
        while written < out.len() {
            if self.at == self.line.len() {
                if self.row == self.rows {
                    break;
                }
                let (n, dice) = (self.row, xxh3_64(&self.row.to_le_bytes()));
                self.line.clear();
                self.at = 0;
                let (customer, day, cents) = (dice % 100_000, dice % 28 + 1, dice % 50_000);
                writeln!(
                    self.line,
                    "A{n:09},C{customer:07},2024-{:02}-{day:02}T10:{:02}:00Z,{}.{:02},P{:05}",
                    dice % 12 + 1,
                    dice % 60,
                    cents / 100,
                    cents % 100,
                    dice % 3000
                )?;
                self.row += 1;
            }
            let taken = (self.line.len() - self.at).min(out.len() - written);
            out[written..written + taken].copy_from_slice(&self.line[self.at..self.at + taken]);
            self.at += taken;
            written += taken;
        }
        Ok(written)
    }
}
