//! Tells receivers of alerts: webhooks, Slack, Alertmanager.
//!
//! In: settings, every state of every alert in the order in which they are published, and a clock.
//! Out: HTTP requests, retried and bounded, and statistics of each receiver.
//! Never: makes the caller wait, fails because a receiver does, shows a URL's path or a secret, touches a disk (but for the
//! files of secrets, when it starts).

mod alertmanager;
mod backlog;
mod config;
mod delivery;
mod links;
mod notifier;
mod receivers;
mod request;
mod retry;
mod secret;
mod slack;
mod statistics;
mod teller;
mod telling;
mod webhook;

#[cfg(test)]
mod sample;

pub use config::{AlertsConfig, Kind, ReceiverConfig};
pub use notifier::{Attempt, Hooks, Notifier, Outcome, Undelivered};
pub use receivers::{ConfigError, Receivers};
pub use secret::Secret;
pub use statistics::ReceiverStatistics;
