//! Logs: to stderr, readable; `RUST_LOG` chooses what, `--log-format json` how.

use crate::CommandLine;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging.
pub fn start(command_line: &CommandLine) {
    let quiet = "warn,sluice=info,sluice_producer=info,sluice_event_log=info,sluice_sinks=info,deltalake_core=error,delta_kernel=error,buoyant_kernel=error";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start, as in tests, keeps the first.
    let _ = if command_line.log_format == "json" { lines.json().try_init() } else { lines.try_init() };
}
