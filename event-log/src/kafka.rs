//! Apache Kafka as the commit log, through librdkafka.
//!
//! One idempotent producer for all topics, one client for questions of metadata, one consumer for each reader.
//! Readers belong to no consumer group: which offset comes next is ours to say, and no offset is committed here.
//! A membership is a consumer of its own, which fetches nothing.

mod clients;
mod membership;
mod reader;

use crate::{EventLog, KafkaConfig, LogError, Membership, OffsetRange, PartitionReader};
use clients::{Deliveries, Traced};
use membership::KafkaMembership;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use reader::KafkaReader;
use sluice_events::{Offset, Partition, RecordBuffer, RecordView};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long one question to the brokers may take.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// How long a new topic may take until all its partitions have a leader.
const TOPIC_WAIT: Duration = Duration::from_secs(30);
/// How long to wait for room in the producer's queue before trying again.
const QUEUE_WAIT: Duration = Duration::from_millis(20);
/// The largest message that topics made here take. Larger than Kafka's own default of 1 MB, because a value that
/// is too large for the stream should become a dead letter, not a producer that cannot go on.
const MESSAGE_BYTES_MAX: &str = "16777216";

/// Kafka as the event log.
pub struct KafkaLog {
    broker: Arc<Broker>,
    producer: ThreadedProducer<Deliveries>,
}

/// What the log and its readers share: settings and the client for metadata.
struct Broker {
    config: KafkaConfig,
    metadata: BaseConsumer<Traced>,
    /// Partitions of the topics seen so far; a topic never loses partitions.
    partition_counts: RwLock<HashMap<String, u32>>,
}

impl KafkaLog {
    /// Connects, and makes sure that a broker answers.
    ///
    /// # Errors
    /// [`LogError::Broker`] when a property is wrong or no broker answers.
    pub fn connect(config: &KafkaConfig) -> Result<Self, LogError> {
        let failed = |deed: &str, error: KafkaError| broker_error(&config.bootstrap, deed, &error);
        let metadata: BaseConsumer<Traced> = clients::consumer_config(config)
            .create_with_context(Traced)
            .map_err(|e| failed("make the metadata client", e))?;
        metadata.client().fetch_metadata(None, ANSWER_WAIT).map_err(|e| failed("connect", e))?;
        let producer = clients::producer_config(config)
            .create_with_context(Deliveries::default())
            .map_err(|e| failed("make the producer", e))?;
        let broker = Broker { config: config.clone(), metadata, partition_counts: RwLock::default() };
        Ok(Self { broker: Arc::new(broker), producer })
    }

    fn delivery_failures(&self) -> Result<(), LogError> {
        match self.producer.context().take_failures() {
            Some((deed, message)) => {
                Err(LogError::Broker { bootstrap: self.broker.config.bootstrap.clone(), deed, message })
            }
            None => Ok(()),
        }
    }

    fn send(&self, topic: &str, partition: Partition, record: RecordView<'_>) -> Result<(), LogError> {
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(self.broker.checked_number(topic, partition)?);
        message.key = record.key;
        message.payload = record.value;
        message.timestamp = (record.time.get() != 0).then_some(record.time.get());
        if !record.headers.is_empty() {
            message.headers =
                Some(record.header_pairs().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                }));
        }
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    message = unsent;
                    self.producer.poll(QUEUE_WAIT);
                    self.delivery_failures()?;
                }
                Err((error, _)) => {
                    return Err(self.broker.error(format!("send a record to {topic}/{partition}"), &error));
                }
            }
        }
    }
}

fn broker_error(bootstrap: &str, deed: impl Into<String>, error: &KafkaError) -> LogError {
    let message = match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    LogError::Broker { bootstrap: bootstrap.to_owned(), deed: deed.into(), message }
}

impl Broker {
    fn failure(&self, deed: impl Into<String>, message: impl Into<String>) -> LogError {
        LogError::Broker { bootstrap: self.config.bootstrap.clone(), deed: deed.into(), message: message.into() }
    }

    fn error(&self, deed: impl Into<String>, error: &KafkaError) -> LogError {
        broker_error(&self.config.bootstrap, deed, error)
    }

    /// How many partitions the topic has; none when it does not exist. Never makes a topic.
    fn look_up(&self, topic: &str) -> Result<Option<u32>, LogError> {
        let deed = || format!("look up topic {topic}");
        let metadata =
            self.metadata.client().fetch_metadata(Some(topic), ANSWER_WAIT).map_err(|e| self.error(deed(), &e))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(RDKafkaErrorCode::LeaderNotAvailable) | None => {}
            Some(code) => return Err(self.error(deed(), &KafkaError::MetadataFetch(code))),
        }
        let count = found.partitions().len() as u32;
        if count == 0 || found.partitions().iter().any(|p| p.leader() < 0) {
            // Just made, or a broker is away. The count is known only when every partition was told.
            return Ok((count > 0).then_some(count));
        }
        let mut counts = self.partition_counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.insert(topic.to_owned(), count);
        Ok(Some(count))
    }

    fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        self.look_up(topic)?.ok_or_else(|| LogError::UnknownTopic { topic: topic.to_owned() })
    }

    /// The partition as Kafka numbers it, once it is sure that it exists.
    fn checked_number(&self, topic: &str, partition: Partition) -> Result<i32, LogError> {
        let known = {
            let counts = self.partition_counts.read().unwrap_or_else(PoisonError::into_inner);
            counts.get(topic).copied().filter(|count| partition.get() < *count)
        };
        let count = match known {
            Some(count) => count,
            None => self.partition_count(topic)?,
        };
        match i32::try_from(partition.get()) {
            Ok(number) if partition.get() < count => Ok(number),
            _ => Err(LogError::UnknownPartition { topic: topic.to_owned(), partition }),
        }
    }

    fn offsets(&self, topic: &str, partition: Partition) -> Result<OffsetRange, LogError> {
        let number = self.checked_number(topic, partition)?;
        let (start, end) = self
            .metadata
            .client()
            .fetch_watermarks(topic, number, ANSWER_WAIT)
            .map_err(|e| self.error(format!("read the offsets of {topic}/{partition}"), &e))?;
        Ok(OffsetRange { start: Offset::new(start), end: Offset::new(end) })
    }

    fn out_of_range(&self, topic: &str, partition: Partition, offset: Offset) -> LogError {
        match self.offsets(topic, partition) {
            Ok(OffsetRange { start, end }) => {
                LogError::OutOfRange { topic: topic.to_owned(), partition, offset, start, end }
            }
            Err(error) => error,
        }
    }

    fn make_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        let deed = || format!("make topic {topic} with {partitions} partitions");
        let admin: AdminClient<DefaultClientContext> =
            clients::any_config(&self.config).create().map_err(|e| self.error("make the admin client", &e))?;
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let new = NewTopic::new(topic, count, TopicReplication::Fixed(self.config.replication))
            .set("max.message.bytes", MESSAGE_BYTES_MAX);
        let options = AdminOptions::new().operation_timeout(Some(TOPIC_WAIT)).request_timeout(Some(TOPIC_WAIT));
        let results =
            futures::executor::block_on(admin.create_topics([&new], &options)).map_err(|e| self.error(deed(), &e))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(self.error(deed(), &KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    }

    fn is_ready(&self, topic: &str) -> bool {
        let counts = self.partition_counts.read().unwrap_or_else(PoisonError::into_inner);
        counts.contains_key(topic)
    }
}

impl EventLog for KafkaLog {
    fn ensure_topic(&self, topic: &str, partitions: u32) -> Result<u32, LogError> {
        if let Some(count) = self.broker.look_up(topic)? {
            return Ok(count);
        }
        self.broker.make_topic(topic, partitions)?;
        let deadline = Instant::now() + TOPIC_WAIT;
        loop {
            // Brokers learn of a new topic one after the other.
            if let Some(count) = self.broker.look_up(topic)?
                && (self.broker.is_ready(topic) || Instant::now() > deadline)
            {
                return Ok(count);
            }
            if Instant::now() > deadline {
                return Err(LogError::UnknownTopic { topic: topic.to_owned() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        self.broker.partition_count(topic)
    }

    fn offsets(&self, topic: &str, partition: Partition) -> Result<OffsetRange, LogError> {
        self.broker.offsets(topic, partition)
    }

    /// Hands the records to librdkafka, which sends them in the background and in order. What could not be delivered
    /// is told by the next append or by [`EventLog::flush`].
    fn append(&self, topic: &str, partition: Partition, records: &RecordBuffer) -> Result<(), LogError> {
        self.delivery_failures()?;
        self.broker.checked_number(topic, partition)?;
        records.iter().try_for_each(|record| self.send(topic, partition, record))
    }

    fn flush(&self) -> Result<(), LogError> {
        // No limit of our own: librdkafka gives up on a record after `delivery.timeout.ms`.
        self.producer.flush(Timeout::Never).map_err(|e| self.broker.error("flush the producer", &e))?;
        self.delivery_failures()
    }

    fn reader(&self, topic: &str, partition: Partition, from: Offset) -> Result<Box<dyn PartitionReader>, LogError> {
        let OffsetRange { start, end } = self.broker.offsets(topic, partition)?;
        if from < start || from > end {
            return Err(LogError::OutOfRange { topic: topic.to_owned(), partition, offset: from, start, end });
        }
        Ok(Box::new(KafkaReader::new(Arc::clone(&self.broker), topic, partition, from)?))
    }
    fn join(&self, group: &str, topic: &str) -> Result<Box<dyn Membership>, LogError> {
        // A consumer would wait for a topic that does not exist.
        self.broker.partition_count(topic)?;
        Ok(Box::new(KafkaMembership::join(Arc::clone(&self.broker), group, topic)?))
    }
}
