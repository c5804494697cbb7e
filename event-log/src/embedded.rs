//! A durable commit log in a local folder, inside this process, on the storage engine fjall.
//!
//! One keyspace for each partition: blocks of records under their first offset. One more, `$topics`, says which topics
//! there are and how many partitions each has. All partitions share one write-ahead journal, which reaches the
//! operating system before an append returns and the disk as the fsync policy says.

mod block;
mod membership;
mod partition;
mod reader;
mod retention;
mod rhythm;

use crate::{EmbeddedConfig, EventLog, FsyncPolicy, LogError, Membership, OffsetRange, PartitionReader};
use fjall::compaction::Leveled;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use membership::OnlyMember;
use partition::{PartitionLog, storage_error};
use reader::EmbeddedReader;
use retention::Retention;
use rhythm::Rhythm;
use sluice_events::{LogTime, Offset, Partition, RecordBuffer};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TOPICS: &str = "$topics";
/// Topic names are those that Kafka takes, so that a configuration can change from one log to the other.
const TOPIC_NAME_BYTES_MAX: usize = 200;
/// Measured with 16 to 256 MB: the same throughput, half the memory of 64 MB.
const MEMTABLE_BYTES: u64 = 32 << 20;
const COMPACT_AFTER: u8 = 2;
/// Bounds the journals, and with them the memory of all memtables together.
const JOURNAL_BYTES: u64 = 512 << 20;
const CACHE_BYTES: u64 = 32 << 20;
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// How often old blocks are looked for, when there is a limit.
const RETENTION_PERIOD: Duration = Duration::from_secs(1);

/// The embedded log. Readers may outlive it, but the folder stays locked until they are gone too.
pub struct EmbeddedLog {
    // Threads first: they end before the database closes.
    _rhythms: Vec<Rhythm>,
    store: Arc<Store>,
}

struct Store {
    dir: PathBuf,
    fsync: FsyncPolicy,
    database: Database,
    topics: Keyspace,
    partitions: RwLock<HashMap<String, Vec<Arc<PartitionLog>>>>,
    /// Held while a topic is made.
    making: Mutex<()>,
    /// Whether something was appended since the last fsync.
    unsynced: AtomicBool,
}

impl EmbeddedLog {
    /// Opens the log in its folder, which is made when missing, and locks it.
    ///
    /// # Errors
    /// [`LogError::InUse`] when another process has the folder open, [`LogError::Storage`] when it cannot be used or is
    /// damaged.
    pub fn open(config: &EmbeddedConfig) -> Result<Self, LogError> {
        let store = Arc::new(Store::open(config)?);
        let rhythms = start_rhythms(config, &store).map_err(|e| storage_error(&config.dir, e.into()))?;
        Ok(Self { _rhythms: rhythms, store })
    }
}

fn start_rhythms(config: &EmbeddedConfig, store: &Arc<Store>) -> std::io::Result<Vec<Rhythm>> {
    let mut rhythms = Vec::new();
    if config.fsync == FsyncPolicy::Interval {
        let store = Arc::clone(store);
        let period = config.fsync_interval.max(Duration::from_millis(1));
        rhythms.push(Rhythm::start("log-fsync", period, move || {
            if let Err(error) = store.sync() {
                tracing::error!(%error, "fsync of the event log");
            }
        })?);
    }
    let retention = Retention {
        age: (!config.retention_age.is_zero()).then_some(config.retention_age),
        bytes: (config.retention_bytes > 0).then_some(config.retention_bytes),
    };
    if retention.drops_anything() {
        let store = Arc::clone(store);
        let period = retention.age.map_or(RETENTION_PERIOD, |age| RETENTION_PERIOD.min(age / 4));
        rhythms.push(Rhythm::start("log-retention", period.max(Duration::from_millis(10)), move || {
            for partition in store.all_partitions() {
                if let Err(error) = partition.drop_old(&store.database, retention, wall_clock()) {
                    tracing::error!(%error, "retention of the event log");
                }
            }
        })?);
    }
    Ok(rhythms)
}

fn wall_clock() -> LogTime {
    // Before 1970 or 292 million years after it, any time is as wrong as another.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LogTime::new(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// How the blocks of a partition lie on disk: beside the tree, which holds only offsets and places. So dropping old
/// blocks rewrites some kilobytes of tree, and a file of blocks that are all dropped is deleted, never rewritten.
/// It is deleted when the tree is compacted, [`COMPACT_AFTER`] memtables later: until then a partition takes that much
/// more disk than its limit.
fn partition_options() -> KeyspaceCreateOptions {
    let blocks_apart = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .file_target_size(BLOB_FILE_BYTES)
        .separation_threshold(128)
        .staleness_threshold(1.0);
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .with_kv_separation(Some(blocks_apart))
        .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(COMPACT_AFTER)))
        .expect_point_read_hits(true)
}

impl Store {
    fn open(config: &EmbeddedConfig) -> Result<Self, LogError> {
        let dir = &config.dir;
        let storage = |e| storage_error(dir, e);
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .journal_compression(CompressionType::None)
            .open()
            .map_err(storage)?;
        let topics = database.keyspace(TOPICS, KeyspaceCreateOptions::default).map_err(storage)?;
        let store = Self {
            dir: dir.clone(),
            fsync: config.fsync,
            database,
            topics,
            partitions: RwLock::default(),
            making: Mutex::default(),
            unsynced: AtomicBool::default(),
        };
        for guard in store.topics.iter() {
            let (name, count) = guard.into_inner().map_err(storage)?;
            let damaged = || LogError::Storage { path: dir.clone(), message: "the list of topics is damaged".into() };
            let name = std::str::from_utf8(&name).map_err(|_| damaged())?;
            let count = u32::from_le_bytes((*count).try_into().map_err(|_| damaged())?);
            store.open_topic(name, count)?;
        }
        Ok(store)
    }

    fn open_topic(&self, topic: &str, count: u32) -> Result<(), LogError> {
        let open_partition = |number| {
            let name = format!("{topic}#{number}");
            let blocks = self.database.keyspace(&name, partition_options).map_err(|e| storage_error(&self.dir, e))?;
            PartitionLog::open(&self.dir, topic, Partition::new(number), blocks).map(Arc::new)
        };
        let partitions = (0..count).map(open_partition).collect::<Result<Vec<_>, _>>()?;
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), partitions);
        Ok(())
    }

    fn count(&self, topic: &str) -> Option<u32> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic).map(|p| p.len() as u32)
    }

    fn partition(&self, topic: &str, partition: Partition) -> Result<Arc<PartitionLog>, LogError> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let of_topic = partitions.get(topic).ok_or_else(|| LogError::UnknownTopic { topic: topic.to_owned() })?;
        of_topic
            .get(partition.get() as usize)
            .map(Arc::clone)
            .ok_or_else(|| LogError::UnknownPartition { topic: topic.to_owned(), partition })
    }

    fn all_partitions(&self) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.values().flatten().map(Arc::clone).collect()
    }

    fn sync(&self) -> Result<(), LogError> {
        // Cleared before the fsync: what is appended meanwhile waits for the next one.
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.database.persist(PersistMode::SyncData).map_err(|e| {
            self.unsynced.store(true, Ordering::Release);
            storage_error(&self.dir, e)
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.fsync != FsyncPolicy::Never
            && let Err(error) = self.sync()
        {
            tracing::error!(%error, "last fsync of the event log");
        }
    }
}

impl EventLog for EmbeddedLog {
    fn ensure_topic(&self, topic: &str, partitions: u32) -> Result<u32, LogError> {
        let store = &self.store;
        let _making = store.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = store.count(topic) {
            return Ok(count);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > TOPIC_NAME_BYTES_MAX || !topic.chars().all(legal) || partitions == 0 {
            let message = format!(
                "cannot make topic '{topic}' with {partitions} partitions: a name is 1 to {TOPIC_NAME_BYTES_MAX} \
                 letters, digits, '.', '_' or '-', and there is at least one partition"
            );
            return Err(LogError::Storage { path: store.dir.clone(), message });
        }
        store.open_topic(topic, partitions)?;
        // Written last: a crash before this leaves only empty keyspaces, which the next attempt takes over.
        store
            .topics
            .insert(topic, partitions.to_le_bytes())
            .and_then(|()| store.database.persist(PersistMode::SyncAll))
            .map_err(|e| storage_error(&store.dir, e))?;
        Ok(partitions)
    }

    fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        self.store.count(topic).ok_or_else(|| LogError::UnknownTopic { topic: topic.to_owned() })
    }

    fn offsets(&self, topic: &str, partition: Partition) -> Result<OffsetRange, LogError> {
        Ok(self.store.partition(topic, partition)?.offsets())
    }

    fn append(&self, topic: &str, partition: Partition, records: &RecordBuffer) -> Result<(), LogError> {
        let store = &self.store;
        let log = store.partition(topic, partition)?;
        let always = store.fsync == FsyncPolicy::Always;
        log.append(&store.database, records, wall_clock(), always)?;
        if !always {
            store.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Everything is with the operating system already; this brings it to the disk, unless the policy is `never`.
    fn flush(&self) -> Result<(), LogError> {
        match self.store.fsync {
            FsyncPolicy::Never => Ok(()),
            FsyncPolicy::Always | FsyncPolicy::Interval => self.store.sync(),
        }
    }

    fn reader(&self, topic: &str, partition: Partition, from: Offset) -> Result<Box<dyn PartitionReader>, LogError> {
        let log = self.store.partition(topic, partition)?;
        let OffsetRange { start, end } = log.offsets();
        if from < start || from > end {
            return Err(log.out_of_range(from));
        }
        Ok(Box::new(EmbeddedReader::new(log, from)))
    }
    fn join(&self, _group: &str, topic: &str) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(OnlyMember::new(self.partition_count(topic)?)))
    }
}
