//! Who shows the events behind an alert.

use sluice_events::{Alert, EventTime};

/// One of the events behind an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleEvent {
    /// Its id.
    pub event_id: String,
    /// When the shop says it happened.
    pub event_time: EventTime,
    /// Where its record is: the input partition.
    pub partition: i32,
    /// Where its record is: the offset there.
    pub offset: i64,
    /// Whose event it is.
    pub customer_id: Option<String>,
    /// The order it is about.
    pub order_id: Option<String>,
    /// The product it is about.
    pub product_id: Option<String>,
    /// What happened, such as `purchase`.
    pub event_type: String,
}

/// Finds the events behind an alert. Asked on the pool for blocking work; an answer that takes long is not waited for.
pub trait AlertEvidence: Send + Sync {
    /// At most this many events of the alert's windows and group.
    ///
    /// # Errors
    /// A text for the log.
    fn events(&self, alert: &Alert, limit: usize) -> Result<Vec<ExampleEvent>, String>;
}

/// Knows of no event.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvidence;

impl AlertEvidence for NoEvidence {
    fn events(&self, _alert: &Alert, _limit: usize) -> Result<Vec<ExampleEvent>, String> {
        Ok(Vec::new())
    }
}
