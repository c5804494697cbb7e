//! Turns bytes into typed events and Arrow batches, and back.
//!
//! In: records of a log partition, lines of a file, the schemas of a registry or of `schemas/`.
//! Out: Arrow batches of events, dead letters with a reason, Avro bodies in the Confluent wire format, JSON objects.
//! Never: reads a clock or a disk. The registry client is the only part that touches a network.

mod alert;
mod alert_text;
mod codec;
mod dead_letter;
mod decode;
mod encode;
mod encode_json;
mod event;
mod event_format;
mod fields;
mod instant;
mod json_fields;
mod kpi;
mod money;
mod partial;
mod partition;
mod readable_fields;
mod records;
mod registry;
mod schedule;
mod structure;
mod time_text;
mod validate;

pub use alert::{Alert, AlertPart, AlertPoint, AlertState, OffsetSpan, Resolution, Severity};
pub use alert_text::{
    alert_text, alert_title, beyond, duration_text, group_text, number_text, part_text, score_meaning,
};
pub use codec::{CodecError, TopicCodec};
pub use dead_letter::{DeadLetter, Reason, Stage};
pub use decode::{DecodeError, Decoded, EventDecoder, IncompatibleSchema};
pub use encode::encode_event;
pub use encode_json::encode_event_json;
pub use event::{Event, EventType, event_schema};
pub use event_format::{EventEncoder, EventFormat};
pub use fields::{EVENT_COLUMNS, EventFields, REQUIRED_COLUMNS, Refusal};
pub use instant::{EventTime, LogTime, Offset, Partition};
pub use kpi::{Kpi, KpiKey, Measure, PaneState};
pub use money::{Money, MoneyError};
pub use partial::{Partial, PartialKind};
pub use partition::partition_for_key;
pub use readable_fields::{ReadableFields, readable_fields};
pub use records::{RecordBuffer, RecordView, Records};
pub use registry::{RegistryConfig, RegistryError, Schemas, Subject, SubjectSchema};
pub use schedule::Schedule;
pub use time_text::{TimeTextError, parse_event_time, time_text};
pub use validate::{Validation, ValidationRules};
