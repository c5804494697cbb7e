//! JSON values, one object each, to the columns of events.

use super::{DecodeError, NumberedValue, Rows};
use crate::{EventFields, Money, Reason, Refusal, event_schema};
use arrow::{
    array::{
        ArrayRef, Decimal128Builder, Int32Array, Int32Builder, RecordBatch, StringViewBuilder,
        TimestampMillisecondBuilder,
    },
    error::ArrowError,
};
use std::sync::Arc;

/// A JSON value is written with no schema of a registry.
const NO_SCHEMA: i32 = 0;

/// Decodes the values of records. What is refused is told with the record's number.
pub(super) fn decode(values: &[NumberedValue<'_>], refused: &mut Vec<(u32, Refusal)>) -> Result<Rows, DecodeError> {
    let mut columns = Columns::new(values.len());
    let mut record_of_row = Vec::with_capacity(values.len());
    for (record, value) in values {
        match fields_of(value).and_then(|fields| columns.append(&fields)) {
            Ok(()) => record_of_row.push(*record),
            Err(refusal) => refused.push((*record, refusal)),
        }
    }
    let schema_ids = Int32Array::from(vec![NO_SCHEMA; record_of_row.len()]);
    Ok(Rows { events: columns.finish()?, record_of_row, schema_ids })
}

fn fields_of(value: &[u8]) -> Result<EventFields<'_>, Refusal> {
    if value.first() == Some(&0) {
        // By no chance: the settings of this topic are wrong, or those of its producer.
        return Err(Refusal::new(Reason::BadJson, "the value begins as Avro does, and the topic is read as JSON"));
    }
    EventFields::from_json(value)
}

/// The columns of [`event_schema`] as they grow.
struct Columns {
    event_id: StringViewBuilder,
    event_type: StringViewBuilder,
    event_time: TimestampMillisecondBuilder,
    /// The eight columns from `customer_id` to `channel`.
    optional: [StringViewBuilder; 8],
    quantity: Int32Builder,
    unit_price: Decimal128Builder,
    currency: StringViewBuilder,
}

impl Columns {
    fn new(rows: usize) -> Self {
        let text = || StringViewBuilder::with_capacity(rows);
        Self {
            event_id: text(),
            event_type: text(),
            event_time: TimestampMillisecondBuilder::with_capacity(rows),
            optional: std::array::from_fn(|_| text()),
            quantity: Int32Builder::with_capacity(rows),
            unit_price: Decimal128Builder::with_capacity(rows),
            currency: text(),
        }
    }

    /// Appends an event whole, or nothing of it.
    fn append(&mut self, fields: &EventFields<'_>) -> Result<(), Refusal> {
        let event = fields.event()?;
        self.event_id.append_value(event.event_id);
        self.event_type.append_value(event.event_type.as_str());
        self.event_time.append_value(event.event_time.get());
        let optional = [
            event.customer_id,
            event.session_id,
            event.order_id,
            event.product_id,
            event.category,
            event.country,
            event.device,
            event.channel,
        ];
        for (column, text) in self.optional.iter_mut().zip(optional) {
            column.append_option(text);
        }
        self.quantity.append_value(event.quantity);
        self.unit_price.append_option(event.unit_price.map(|price| i128::from(price.units())));
        self.currency.append_option(event.currency);
        Ok(())
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let price = self.unit_price.finish().with_precision_and_scale(Money::PRECISION, Money::SCALE as i8)?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            Arc::new(self.event_type.finish()),
            Arc::new(self.event_time.finish().with_timezone("UTC")),
        ];
        columns.extend(self.optional.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.extend([Arc::new(self.quantity.finish()) as ArrayRef, Arc::new(price)]);
        columns.push(Arc::new(self.currency.finish()));
        RecordBatch::try_new(event_schema(), columns)
    }
}

#[cfg(test)]
mod tests;
