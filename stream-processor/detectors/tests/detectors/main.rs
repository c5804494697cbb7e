//! The detectors from outside: windows in, findings out.
//!
//! What each of them owes is in [`conformance`]; a new detector calls it from its own module.

mod conformance;
mod per_series;
mod rate;
mod shop;
