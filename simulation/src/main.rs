//! Runs many seeds: `cargo run -p sluice-simulation -- --seeds 100000`.

use clap::Parser;
use sluice_simulation::{Happened, check};
use std::process::ExitCode;

/// Simulates the engine from seeds and compares it with a slow twin.
#[derive(Parser)]
struct CommandLine {
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

fn main() -> ExitCode {
    let CommandLine { seeds, from } = CommandLine::parse();
    let mut all = Happened::default();
    let mut bad = 0_u64;
    for seed in from..from.saturating_add(seeds) {
        match check(seed) {
            Ok(happened) => all += happened,
            Err(problem) => {
                bad += 1;
                println!("seed {seed}: {problem}");
            }
        }
    }
    println!("{seeds} seeds, {bad} bad; {all:?}");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
