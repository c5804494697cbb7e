//! Runs many seeds: `cargo run -p sluice-simulation -- --seeds 100000`.

use clap::Parser;
use sluice_simulation::{Happened, check};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

/// Simulates the engine from seeds and compares it with a slow twin.
#[derive(Parser)]
struct CommandLine {
    /// How many seeds.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let CommandLine { seeds, from, jobs } = CommandLine::parse();
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
    let next = AtomicU64::new(from);
    let (mut all, mut bad) = (Happened::default(), 0);
    std::thread::scope(|scope| {
        let run = || {
            let (mut all, mut bad) = (Happened::default(), 0_u64);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from.saturating_add(seeds) {
                    return (all, bad);
                }
                match check(seed) {
                    Ok(happened) => all += happened,
                    Err(problem) => {
                        bad += 1;
                        println!("seed {seed}: {problem}");
                    }
                }
                let done = seed + 1 - from;
                if done.is_multiple_of(1_000) {
                    eprintln!("{done} of {seeds} seeds");
                }
            }
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            if let Ok((happened, wrong)) = thread.join() {
                all += happened;
                bad += wrong;
            }
        }
    });
    println!("{seeds} seeds, {bad} bad; {all:?}");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
