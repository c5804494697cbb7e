//! How the librdkafka clients are set up, and what they tell us in the background.

use super::MESSAGE_BYTES_MAX;
use crate::KafkaConfig;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::sync::{Mutex, PoisonError};

/// Settings of every client; the user's own properties go over ours.
pub(super) fn any_config(config: &KafkaConfig) -> ClientConfig {
    configured(config, &[])
}

pub(super) fn producer_config(config: &KafkaConfig) -> ClientConfig {
    configured(
        config,
        &[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "lz4"),
            ("linger.ms", "10"),
            ("batch.num.messages", "100000"),
            ("message.max.bytes", MESSAGE_BYTES_MAX),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
        ],
    )
}

pub(super) fn consumer_config(config: &KafkaConfig) -> ClientConfig {
    configured(
        config,
        &[
            // librdkafka asks for a group before it lets a partition be assigned by hand. Nobody ever joins it.
            ("group.id", "sluice-reader"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("allow.auto.create.topics", "false"),
            ("isolation.level", "read_committed"),
            // The default of 1000 ms leaves the consumer idle whenever its queue was full: 0.2 instead of 1.2 million
            // records a second on a catch-up.
            ("fetch.queue.backoff.ms", "2"),
        ],
    )
}

/// A consumer that is in `group` for its assignments alone.
pub(super) fn member_config(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut settings = vec![
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // Nobody reads from where this says; "error" would be told as one.
        ("auto.offset.reset", "latest"),
        ("allow.auto.create.topics", "false"),
    ];
    // With the newer protocol the broker decides these, and librdkafka refuses them.
    if config.properties.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
        settings.extend([
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "3000"),
        ]);
    }
    let mut all = configured(config, &settings);
    // Not a default: several groups may be joined with one set of properties.
    all.set("group.id", group);
    all
}

fn configured(config: &KafkaConfig, settings: &[(&str, &str)]) -> ClientConfig {
    let mut all = ClientConfig::new();
    all.set("bootstrap.servers", &config.bootstrap).set("client.id", "sluice");
    for (name, value) in settings {
        all.set(*name, *value);
    }
    for (name, value) in &config.properties {
        all.set(name, value);
    }
    all
}

/// Hands librdkafka's own log to `tracing`.
pub(super) struct Traced;

impl ClientContext for Traced {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        trace_trouble(&error, reason);
    }
}

impl ConsumerContext for Traced {}

/// Remembers the records that could not be delivered, until somebody asks.
#[derive(Default)]
pub(super) struct Deliveries {
    failed: Mutex<Option<Failures>>,
}

struct Failures {
    count: u64,
    first_place: String,
    first_reason: String,
}

impl Deliveries {
    /// What was tried and why it failed, for all failures since the last call.
    pub fn take_failures(&self) -> Option<(String, String)> {
        let failures = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let deed = format!("deliver {} records, the first to {}", failures.count, failures.first_place);
        Some((deed, failures.first_reason))
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        trace_trouble(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failed.get_or_insert_with(|| Failures {
            count: 0,
            first_place: format!("{}/{}", message.topic(), message.partition()),
            first_reason: error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()),
        });
        failures.count += 1;
    }
}

/// Whether the broker will not have us, now or later. The rest passes, and librdkafka tries again by itself.
pub(super) fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let refuses = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Fatal
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
        )
    );
    refuses || matches!(error, KafkaError::MessageConsumptionFatal(_))
}

pub(super) fn trace_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // The same properties go to producers and consumers, and each says which ones are not for it.
    if facility == "CONFWARN" && message.contains("will be ignored by this") {
        return tracing::debug!(facility, message, "librdkafka");
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}

pub(super) fn trace_trouble(error: &KafkaError, reason: &str) {
    // librdkafka goes on trying after most of these; what ends a deed is returned to the one who asked for it.
    tracing::warn!(%error, reason, "Kafka client");
}
