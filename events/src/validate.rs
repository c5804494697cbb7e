//! The rules an event must keep to count (definitions of an accepted event).

use crate::{EventTime, EventType, LogTime, Reason};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Decimal128Type, Int32Type, TimestampMillisecondType},
};
use std::time::Duration;

/// Settings of validation.
#[derive(Clone, Copy, Debug)]
pub struct ValidationRules {
    /// How far an event may be stamped after its log time.
    pub max_future_skew: Duration,
}

/// The rows of a batch that break a rule, in order, each with the first rule it breaks.
#[derive(Debug, Default, PartialEq)]
pub struct Validation {
    /// Row, reason, message.
    pub refused: Vec<(usize, Reason, String)>,
}

impl ValidationRules {
    /// Checks each row of `events` (columns of [`crate::event_schema`]); `log_time` says when the log took a row.
    ///
    /// # Panics
    /// When the batch has other columns.
    pub fn check(&self, events: &RecordBatch, log_time: impl Fn(usize) -> LogTime) -> Validation {
        const COLUMNS: &str = "the batch has the columns of event_schema";
        let column = |name: &str| events.column_by_name(name).expect(COLUMNS);
        let ids = column("event_id").as_string_view();
        let types = column("event_type").as_string_view();
        let times = column("event_time").as_primitive::<TimestampMillisecondType>().values();
        let products = column("product_id").as_string_view();
        let quantities = column("quantity").as_primitive::<Int32Type>().values();
        let prices = column("unit_price").as_primitive::<Decimal128Type>();
        let skew = i64::try_from(self.max_future_skew.as_millis()).unwrap_or(i64::MAX);

        let mut validation = Validation::default();
        for row in 0..events.num_rows() {
            let time = times[row];
            let needs_product = || {
                let event_type = types.value(row);
                event_type == EventType::Purchase.as_str() || event_type == EventType::AddToCart.as_str()
            };
            let mut refuse = |reason, message: String| validation.refused.push((row, reason, message));
            if ids.value(row).is_empty() {
                refuse(Reason::MissingEventId, "event_id is empty".to_owned());
            } else if time < EventTime::EARLIEST.get() {
                refuse(Reason::TooOld, format!("event_time {time} ms is before 1980"));
            } else if time > log_time(row).get().saturating_add(skew) {
                let ahead = time - log_time(row).get();
                refuse(Reason::Future, format!("event_time {time} ms is {ahead} ms after the log took it"));
            } else if prices.is_valid(row) && prices.value(row) < 0 {
                refuse(Reason::NegativePrice, "unit_price is below 0".to_owned());
            } else if (quantities[row] <= 0 || products.is_null(row) || products.value(row).is_empty())
                && needs_product()
            {
                if quantities[row] <= 0 {
                    refuse(Reason::BadQuantity, format!("quantity is {}", quantities[row]));
                } else {
                    refuse(Reason::MissingProduct, "product_id is missing".to_owned());
                }
            }
        }
        validation
    }
}
