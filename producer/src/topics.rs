//! Where records go and how they are written.

use sluice_events::{DeadLetter, EventEncoder, TopicCodec};

/// The two topics a producer writes, and how. Both must exist in the log.
#[derive(Clone)]
pub struct ProducerTopics {
    /// Topic of the events.
    pub events: String,
    /// Topic of lines that are no events.
    pub dead_letters: String,
    /// Writes events.
    pub event_encoder: EventEncoder,
    /// Writes dead letters.
    pub dead_letter_codec: TopicCodec<DeadLetter>,
}
