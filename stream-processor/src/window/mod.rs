//! Which windows an event is in: tumbling, hopping and session windows, in SQL and in numbers.

mod batch;
mod functions;
mod grid;

pub use batch::register_batch_functions;
pub(crate) use functions::{unalias, window_call, window_end, window_functions};
pub use grid::Grid;

/// The windows of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// Tumbling or hopping windows, aligned to 1970-01-01 UTC or, for whole days, to midnights of a time zone.
    Grid(Grid),
    /// Windows of one group each, which end when nothing has come for longer than the gap.
    /// From the first event to the gap after the last, so that an event exactly the gap later still belongs to it.
    Session {
        /// Milliseconds.
        gap: i64,
    },
}
