//! Logs: to stderr, readable; `RUST_LOG` chooses what, `--log-format json` how.

use crate::CommandLine;
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging.
pub fn start(command_line: &CommandLine) {
    // The Delta kernel says "error" where it finds a table not made yet, which is how every table begins.
    let quiet = "warn,sluice=info,sluice_producer=info,sluice_event_log=info,sluice_alert_channels=info,sluice_sinks=info,deltalake_core=error,delta_kernel=off,buoyant_kernel=off";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start, as in tests, keeps the first.
    let _ = if command_line.log_format == "json" { lines.json().try_init() } else { lines.try_init() };
}
