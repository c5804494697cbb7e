//! Says how unusual a closed window is, measured by those before it.
//!
//! In: closed windows of a model, one after the other, and what is known beforehand: promotions, civil time.
//! Out: readings (observed, expected, band, score) of the series that left their band, and of their roll-ups.
//! Never: looks at a later window, reads a clock, draws a random number, touches a network or a disk.

mod calendar;
mod cover;
mod detector;
mod frame;
mod limits;
mod method;
mod moments;
mod nodes;
mod one_series;
mod per_series;
mod rate;
mod zscore;

pub use calendar::{Calendar, CalendarError, Clock, Promotion};
pub use cover::CoverConfig;
pub use detector::{Contribution, Detector, DetectorConfig, Direction, Finding, Formula, Health, Metric, Reading};
pub use frame::Frame;
pub use method::Method;
pub use nodes::{Member, NodeId, Nodes};
pub use one_series::OneSeries;
pub use per_series::PerSeries;
pub use rate::{RateConfig, RateError, RateSuite};
pub use zscore::{EwmaConfig, ZScoreConfig};
