//! How the values of the topic of events are written.

use crate::{Event, Schemas, Subject, encode::encode_event, encode_json::encode_event_json};
use serde::{Deserialize, Serialize};

/// How the values of the topic of events are written. Whichever it is, the same columns come out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// Avro in the Confluent wire format.
    Avro,
    /// One JSON object a value, its keys the field names of `schemas/event-v1.avsc`.
    Json,
}

/// Writes the values of the topic of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEncoder {
    /// By [`encode_event`].
    Avro {
        /// Id of the event schema, as the registry knows it.
        schema_id: u32,
    },
    /// By [`encode_event_json`].
    Json,
}

impl EventEncoder {
    /// Writes in this format; Avro by the schema that `schemas` has for events.
    pub fn new(format: EventFormat, schemas: &Schemas) -> Self {
        match format {
            EventFormat::Avro => Self::Avro { schema_id: schemas.subject(Subject::Events).id },
            EventFormat::Json => Self::Json,
        }
    }

    /// Appends the event's value.
    pub fn encode(self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Avro { schema_id } => encode_event(event, schema_id, out),
            Self::Json => encode_event_json(event, out),
        }
    }
}
