//! Alerts outside the stream: who is told, what is shown of them, what would have fired.

mod announcer;
mod command;
mod evidence;
mod simulate;

pub(crate) use announcer::Announcer;
pub(crate) use command::{AlertsCommand, run};
pub(crate) use evidence::SilverEvents;
