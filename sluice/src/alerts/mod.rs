//! Alerts outside the stream: who is told, what is shown of them, what would have fired.

mod announcer;
mod command;
mod evidence;
mod simulate;

pub(crate) use announcer::Announcer;
pub(crate) use command::{AlertsCommand, run};
pub(crate) use evidence::SilverEvents;

use chrono::{DateTime, SecondsFormat};
use sluice_events::EventTime;

/// A time as people and programs read it.
fn moment(time: EventTime) -> String {
    DateTime::from_timestamp_millis(time.get())
        .map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
