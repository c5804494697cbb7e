//! Reads a partition of a Kafka topic forward.

use super::{Broker, clients};
use crate::kafka::clients::Traced;
use crate::{LogError, PartitionReader};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use sluice_events::{LogTime, Offset, Partition, Records};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One answer is cut when it holds this many bytes, however many records were asked for.
const ANSWER_BYTES: usize = 8 << 20;
/// The end of the year 9999: a producer may stamp its records as it likes.
const LOG_TIME_MAX: i64 = 253_402_300_799_999;

pub(super) struct KafkaReader {
    broker: Arc<Broker>,
    consumer: BaseConsumer<Traced>,
    topic: String,
    partition: Partition,
    position: Offset,
    /// What ended the reading; librdkafka tells it only once.
    ended: Option<Ending>,
}

#[derive(Clone)]
enum Ending {
    OutOfRange,
    Refused(KafkaError),
}

impl KafkaReader {
    pub fn new(broker: Arc<Broker>, topic: &str, partition: Partition, from: Offset) -> Result<Self, LogError> {
        let deed = || format!("read {topic}/{partition} from offset {from}");
        let consumer: BaseConsumer<Traced> = clients::consumer_config(&broker.config)
            .create_with_context(Traced)
            .map_err(|e| broker.error(deed(), &e))?;
        let number = broker.checked_number(topic, partition)?;
        let mut place = TopicPartitionList::with_capacity(1);
        place
            .add_partition_offset(topic, number, KafkaOffset::Offset(from.get()))
            .and_then(|()| consumer.assign(&place))
            .map_err(|e| broker.error(deed(), &e))?;
        Ok(Self { broker, consumer, topic: topic.to_owned(), partition, position: from, ended: None })
    }

    fn ending_error(&self, ending: &Ending) -> LogError {
        match ending {
            Ending::OutOfRange => self.broker.out_of_range(&self.topic, self.partition, self.position),
            Ending::Refused(error) => self.broker.error(format!("read {}/{}", self.topic, self.partition), error),
        }
    }
}

/// Whether the trouble ends the reading; the rest passes, and librdkafka tries again by itself.
fn ending_of(error: KafkaError) -> Option<Ending> {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Some(Ending::OutOfRange),
        Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition) => {
            Some(Ending::Refused(error))
        }
        _ if clients::is_refusal(&error) => Some(Ending::Refused(error)),
        _ => None,
    }
}

fn push<'a>(records: &mut Records, message: &'a BorrowedMessage<'_>, headers: &mut Vec<(&'a str, &'a [u8])>) {
    headers.clear();
    if let Some(theirs) = message.headers() {
        headers.extend(theirs.iter().map(|header| (header.key, header.value.unwrap_or_default())));
    }
    let time = LogTime::new(message.timestamp().to_millis().unwrap_or(0).clamp(0, LOG_TIME_MAX));
    records.push_with_headers(Offset::new(message.offset()), time, message.key(), message.payload(), headers);
}

impl PartitionReader for KafkaReader {
    fn next(&mut self, max_records: usize, wait: Duration) -> Result<Records, LogError> {
        if let Some(ending) = &self.ended {
            return Err(self.ending_error(ending));
        }
        let mut records = Records::new();
        let asked = Instant::now();
        while records.len() < max_records.max(1) && records.payload_bytes() < ANSWER_BYTES {
            // Wait for the first record only; then take what librdkafka already holds.
            let left = if records.is_empty() { wait.saturating_sub(asked.elapsed()) } else { Duration::ZERO };
            match self.consumer.poll(left) {
                Some(Ok(message)) => push(&mut records, &message, &mut Vec::new()),
                Some(Err(error)) => match ending_of(error.clone()) {
                    Some(ending) => {
                        self.ended = Some(ending);
                        break;
                    }
                    None => tracing::warn!(topic = self.topic, partition = %self.partition, %error, "Kafka reader"),
                },
                None if !records.is_empty() || asked.elapsed() >= wait => break,
                None => {}
            }
        }
        match (records.last_offset(), &self.ended) {
            (Some(last), _) => self.position = last.next(),
            (None, Some(ending)) => return Err(self.ending_error(ending)),
            (None, None) => {}
        }
        Ok(records)
    }

    fn position(&self) -> Offset {
        self.position
    }
}
