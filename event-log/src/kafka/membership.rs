//! A place in a Kafka consumer group, for its assignments alone.
//!
//! The group's consumer pauses every partition it is given and fetches nothing: records come through the partitions' own
//! readers, offsets are ours to keep. A thread polls it, because rebalances happen inside of polls:
//!
//! - Assigned: taken, paused, told.
//! - Revoked: told, and held until the owner has let go; only then may the group give them to another member.
//!   Heartbeats go on meanwhile, in librdkafka's own threads. While it is held, librdkafka does not notice that the
//!   session has expired; that is the one case in which another member may have the partitions already.
//! - Lost: told; they are gone.

use super::{Broker, clients};
use crate::{AssignmentChange, LogError, Membership};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use sluice_events::{Offset, Partition};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one poll waits; also how long leaving the group may be put off.
const POLL: Duration = Duration::from_millis(100);
/// A revocation that is not released by then is told in the log.
const SLOW_RELEASE: Duration = Duration::from_secs(20);
/// librdkafka's default for `max.poll.interval.ms`: who does not poll for so long is put out of the group.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(300);

type Changes = Result<AssignmentChange, LogError>;

pub(super) struct KafkaMembership {
    broker: Arc<Broker>,
    group: String,
    changes: Receiver<Changes>,
    handover: Arc<Handover>,
    /// Revocations handed out so far.
    revocations: u64,
    thread: Option<JoinHandle<()>>,
}

impl KafkaMembership {
    pub fn join(broker: Arc<Broker>, group: &str, topic: &str) -> Result<Self, LogError> {
        let deed = || format!("join group {group} of topic {topic}");
        let config = clients::member_config(&broker.config, group);
        let (sender, changes) = channel();
        let handover = Arc::new(Handover::default());
        let rebalances = Rebalances {
            broker: Arc::clone(&broker),
            group: group.to_owned(),
            topic: topic.to_owned(),
            changes: sender,
            handover: Arc::clone(&handover),
            revocations: AtomicU64::new(0),
            hold_max: hold_max(&config),
        };
        let consumer: BaseConsumer<Rebalances> =
            config.create_with_context(rebalances).map_err(|e| broker.error(deed(), &e))?;
        consumer.subscribe(&[topic]).map_err(|e| broker.error(deed(), &e))?;
        let thread = std::thread::Builder::new().name("log-membership".to_owned()).spawn({
            let handover = Arc::clone(&handover);
            move || keep_up(consumer, &handover)
        });
        let thread = thread.map_err(|e| broker.failure(deed(), e.to_string()))?;
        Ok(Self { broker, group: group.to_owned(), changes, handover, revocations: 0, thread: Some(thread) })
    }
}

/// Well before the group would put out a member that does not poll.
fn hold_max(config: &ClientConfig) -> Duration {
    let set = config.get("max.poll.interval.ms").and_then(|millis| millis.parse().ok());
    set.map_or(POLL_INTERVAL_MAX, Duration::from_millis).mul_f64(0.8)
}

/// Polls until the membership is dropped, then leaves the group.
fn keep_up(consumer: BaseConsumer<Rebalances>, handover: &Handover) {
    while !handover.is_leaving() {
        match consumer.poll(POLL) {
            Some(Err(error)) if clients::is_refusal(&error) => {
                let rebalances = consumer.context();
                rebalances.tell(Err(rebalances.broker.error(format!("stay in group {}", rebalances.group), &error)));
                break;
            }
            Some(Err(error)) => tracing::warn!(group = consumer.context().group, %error, "consumer group"),
            // A record that was faster than the pause: the partition's reader brings it.
            Some(Ok(_)) | None => {}
        }
        tell_hints(&consumer, handover);
    }
    tell_hints(&consumer, handover);
    handover.leave();
}

/// Commits the offsets that the owner has hinted at, of partitions that are still its own.
fn tell_hints(consumer: &BaseConsumer<Rebalances>, handover: &Handover) {
    let hints = handover.take_hints();
    if hints.is_empty() {
        return;
    }
    let rebalances = consumer.context();
    let owned = consumer.assignment().map(|list| rebalances.partitions(&list)).unwrap_or_default();
    let mut list = TopicPartitionList::new();
    for (partition, next) in hints.into_iter().filter(|(partition, _)| owned.contains(partition)) {
        let number = i32::try_from(partition.get()).unwrap_or(i32::MAX);
        let _ = list.add_partition_offset(&rebalances.topic, number, KafkaOffset::Offset(next.get()));
    }
    if list.count() > 0
        && let Err(error) = consumer.commit(&list, CommitMode::Async)
    {
        tracing::debug!(group = rebalances.group, %error, "the group was not told how far we are");
    }
}

impl Membership for KafkaMembership {
    fn next_change(&mut self, wait: Duration) -> Result<Option<AssignmentChange>, LogError> {
        match self.changes.recv_timeout(wait) {
            Ok(change) => {
                let change = change?;
                self.revocations += u64::from(matches!(change, AssignmentChange::Revoked(_)));
                Ok(Some(change))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.broker.failure(format!("stay in group {}", self.group), "the membership has ended"))
            }
        }
    }

    fn released(&mut self) {
        self.handover.release(self.revocations);
    }

    fn hint(&mut self, positions: &[(Partition, Offset)]) {
        self.handover.hint(positions);
    }
}

impl Drop for KafkaMembership {
    fn drop(&mut self) {
        self.handover.leave();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(group = self.group, "the thread of a consumer group panicked");
        }
    }
}

/// How far the owner has followed, for the thread that holds a revocation.
#[derive(Default)]
struct Handover {
    state: Mutex<Followed>,
    changed: Condvar,
}

#[derive(Default)]
struct Followed {
    /// Revocations that were released, all up to this number.
    released: u64,
    leaving: bool,
    /// What the group has not been told yet.
    hints: BTreeMap<Partition, Offset>,
}

impl Handover {
    fn update(&self, change: impl FnOnce(&mut Followed)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn release(&self, revocations: u64) {
        self.update(|state| state.released = revocations);
    }

    fn leave(&self) {
        self.update(|state| state.leaving = true);
    }

    fn hint(&self, positions: &[(Partition, Offset)]) {
        self.update(|state| state.hints.extend(positions.iter().copied()));
    }

    fn take_hints(&self) -> BTreeMap<Partition, Offset> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).hints)
    }

    fn is_leaving(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).leaving
    }

    /// Waits until that revocation is released or nobody is there to do it; says whether one of both came in time.
    fn wait(&self, revocation: u64, at_most: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |state: &mut Followed| state.released < revocation && !state.leaving;
        let waited = self.changed.wait_timeout_while(state, at_most, held);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Carries rebalances from librdkafka to the membership's owner. Its methods run on the polling thread.
struct Rebalances {
    broker: Arc<Broker>,
    group: String,
    topic: String,
    changes: Sender<Changes>,
    handover: Arc<Handover>,
    /// Revocations told so far.
    revocations: AtomicU64,
    /// How long a revocation may be held.
    hold_max: Duration,
}

impl Rebalances {
    fn tell(&self, change: Changes) {
        // An owner who is gone wants to know nothing.
        let _ = self.changes.send(change);
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let elements = list.elements();
        let ours = elements.iter().filter(|element| element.topic() == self.topic);
        ours.filter_map(|element| u32::try_from(element.partition()).ok()).map(Partition::new).collect()
    }

    /// Takes what the group gives, without fetching from it.
    fn take(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let taken = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = taken {
            return self.tell(Err(self.broker.error(format!("take partitions in group {}", self.group), &error)));
        }
        if let Err(error) = consumer.pause(list) {
            // Then records are fetched and thrown away: dear, but not wrong.
            tracing::warn!(group = self.group, %error, "pause the partitions of a consumer group");
        }
        let partitions = self.partitions(list);
        if !partitions.is_empty() {
            self.tell(Ok(AssignmentChange::Assigned(partitions)));
        }
    }

    /// Gives back what the group wants, as soon as the owner has let go.
    fn give(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = self.partitions(list);
        if !partitions.is_empty() {
            if consumer.assignment_lost() {
                self.tell(Ok(AssignmentChange::Lost(partitions)));
            } else if !self.handover.is_leaving() {
                self.hold(partitions);
            }
        }
        let given = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = given {
            self.tell(Err(self.broker.error(format!("give partitions back to group {}", self.group), &error)));
        }
    }

    /// Holds the revocation until the owner has let go, but never so long that the group would put us out.
    fn hold(&self, partitions: Vec<Partition>) {
        let revocation = self.revocations.fetch_add(1, Ordering::Relaxed) + 1;
        let began = Instant::now();
        self.tell(Ok(AssignmentChange::Revoked(partitions.clone())));
        if self.handover.wait(revocation, SLOW_RELEASE.min(self.hold_max)) {
            return;
        }
        tracing::warn!(group = self.group, waited = ?began.elapsed(), "partitions are wanted by others and not released");
        if !self.handover.wait(revocation, self.hold_max.saturating_sub(began.elapsed())) {
            tracing::error!(group = self.group, waited = ?began.elapsed(), "partitions are given away, not released");
            self.tell(Ok(AssignmentChange::Lost(partitions)));
        }
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        clients::trace_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        clients::trace_trouble(&error, reason);
    }
}

impl ConsumerContext for Rebalances {
    /// In place of the library's own, which passes over errors.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.take(consumer, list),
            _ => self.give(consumer, list),
        }
    }
}
