//! Detection: what is watched, what the detectors are shown, and the alerts that come of it.

mod alert_book;
mod history;
mod plan;
mod spec;
#[cfg(test)]
mod tests;
mod watcher;

pub use alert_book::AlertUpdate;
pub use history::HistoryWatch;
pub use plan::{ColumnKind, WatchColumn, WatchError, WatchPlan};
pub use spec::{DetectSpec, MeasureText, Method};
pub use watcher::{DetectionHealth, KnownTimes, Watcher, detector_of};
pub(crate) use watcher::{SavedWatcher, Seen, plans};
