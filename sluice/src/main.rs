//! The program: reads the command line and hands over to the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command_line = sluice::CommandLine::parse();
    sluice::telemetry::start(&command_line);
    match sluice::run(command_line) {
        Ok(code) => code,
        Err(error) => {
            // One line a cause: what was tried, then why it did not work.
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<sluice::WrongUse>() { 2 } else { 1 })
        }
    }
}
