//! The program: reads the command line and hands over to the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command_line = sluice::CommandLine::parse();
    sluice::telemetry::start(&command_line);
    match sluice::run(command_line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", sluice::causes(&error));
            ExitCode::from(if error.is::<sluice::WrongUse>() { 2 } else { 1 })
        }
    }
}
