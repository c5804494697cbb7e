//! The program: reads the command line and hands over to the library.

use clap::Parser;
use std::process::ExitCode;

/// Who reads our output may have seen enough, as in `| head`: that is no failure of ours.
fn end_when_the_reader_has() {
    let panics = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(0);
        }
        panics(panic);
    }));
}

fn main() -> ExitCode {
    end_when_the_reader_has();
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
