//! The detector of a model's counts, conditional rates and mean values.
//!
//! What a series should have is learnt as the week of its counts in civil time, times its level of the last days, times
//! that of the last hour; rates and mean values by hour of day, given the events that they are of. Roll-ups expect the
//! sum of what their series expect, so a change of the mix is no anomaly. Each number is judged over several horizons by
//! deviance residuals, whose dispersion is learnt too; the score is `-log10` of the false alarms a day of one test.
//!
//! Invariants: a window is judged by what was learnt before it; observed and expected go into the same sums or none does;
//! only an unusual number outside suppression becomes a finding, but every unusual number stops learning.

mod clumps;
mod dispersion;
mod horizons;
mod hourly;
mod lag;
mod node;
mod pace;
mod profile;
mod span;
mod suite;
mod suppression;
mod tail;

pub use suite::{RateConfig, RateError, RateSuite};
