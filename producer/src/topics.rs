//! Where records go and how they are written.

use sluice_events::{DeadLetter, TopicCodec};

/// The two topics a producer writes, with the schemas it writes them by. Both must exist in the log.
#[derive(Clone)]
pub struct ProducerTopics {
    /// Topic of the events.
    pub events: String,
    /// Topic of lines that are no events.
    pub dead_letters: String,
    /// Schema id of the event schema, as the registry knows it.
    pub event_schema_id: u32,
    /// Writes dead letters.
    pub dead_letter_codec: TopicCodec<DeadLetter>,
}
