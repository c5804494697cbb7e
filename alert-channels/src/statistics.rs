//! How a receiver does, for metrics.

use crate::Kind;

/// Counts since the start, and how things stand.
///
/// Each notice has one way out: `taken = sent + refused + given_up + dropped + queued`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverStatistics {
    /// Its name in the settings.
    pub receiver: String,
    /// What it understands.
    pub kind: Kind,
    /// Notices that were worth telling it.
    pub taken: u64,
    /// Notices it accepted.
    pub sent: u64,
    /// Notices it said no to, in a way that trying again cannot mend.
    pub refused: u64,
    /// Notices that were tried as often as the settings allow, and not accepted.
    pub given_up: u64,
    /// Notices that made room in a full backlog.
    pub dropped: u64,
    /// Attempts that failed and may be made again; those of re-sending are among them.
    pub failed_attempts: u64,
    /// Requests by which it was told again what goes on, and that it accepted. Of an Alertmanager only.
    pub resent: u64,
    /// Notices that wait, with the one that is being sent.
    pub queued: usize,
    /// Alerts whose beginning it was told, or is about to be, and whose end it was not.
    pub open: usize,
    /// Alerts that were forgotten because there were too many: it will not be told of their end.
    pub forgotten: u64,
    /// When it last accepted something: milliseconds since 1970, by the notifier's clock.
    pub last_success: Option<i64>,
}
