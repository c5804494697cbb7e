//! What every role needs: the log, the schemas, the topics, the metrics.

use crate::{Config, admission::Admission, lake_tables::checked_tables};
use anyhow::{Context, Result};
use sluice_event_log::{EventLog, LogError};
use sluice_events::{EventEncoder, Schemas, Subject};
use sluice_quality::{Expectation, Quarantine};
use sluice_sinks::{
    Metric, Metrics,
    lake::{CheckpointStore, Lake},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often who waits looks at the clock, and at the signal to stop.
const TICK: Duration = Duration::from_millis(100);

/// The common ground of the roles of one process.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub config: Arc<Config>,
    pub log: Arc<dyn EventLog>,
    pub schemas: Arc<Schemas>,
    pub metrics: Arc<Metrics>,
    pub lake: Lake,
    pub checkpoints: CheckpointStore,
    pub expectations: Arc<[Expectation]>,
    pub admission: Arc<Admission>,
    pub event_partitions: u32,
    pub merge_partitions: u32,
    pub failure: Arc<Failure>,
}

impl Pipeline {
    /// Connects to everything, and makes the topics that are missing.
    pub fn open(config: Config, runtime: &tokio::runtime::Runtime) -> Result<Self> {
        let log = sluice_event_log::open(&config.log).context("open event log")?;
        let topics = &config.topics;
        let event_partitions = log.ensure_topic(&topics.events, topics.partitions)?;
        let merge_partitions = log.ensure_topic(&topics.partials, topics.merge_partitions)?;
        for topic in [&topics.kpis, &topics.alerts, &topics.dead_letters] {
            log.ensure_topic(topic, 1)?;
        }
        let schemas = Schemas::open(&config.registry, |s| topics.avro(s)).context("open schema registry")?;
        Self::of(config, runtime, log, schemas, [event_partitions, merge_partitions])
    }

    /// The same for who only looks: nothing is made, nothing is registered.
    pub fn look(config: Config, runtime: &tokio::runtime::Runtime) -> Result<Self> {
        let log = sluice_event_log::open(&config.log).context("open event log")?;
        let partitions = |topic: &str| match log.partition_count(topic) {
            Err(LogError::UnknownTopic { .. }) => Ok(0),
            other => other,
        };
        let counts = [partitions(&config.topics.events)?, partitions(&config.topics.partials)?];
        Self::of(config, runtime, log, Schemas::shipped(), counts)
    }

    fn of(
        config: Config,
        runtime: &tokio::runtime::Runtime,
        log: Arc<dyn EventLog>,
        schemas: Schemas,
        [event_partitions, merge_partitions]: [u32; 2],
    ) -> Result<Self> {
        let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
        let checkpoints = CheckpointStore::open(&config.checkpoints.url, &config.lake, runtime.handle().clone())?;
        let metrics = Metrics::new();
        metrics.set(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);
        metrics.set(Metric::Uptime, &[], now_millis() as f64 / 1000.0);
        let expectations: Arc<[Expectation]> = sluice_quality::compile(&config.quality, &checked_tables())?.into();
        let admission = Arc::new(Admission::new(config.time.validation(), Quarantine::of(&expectations)));
        Ok(Self {
            config: Arc::new(config),
            log,
            schemas: Arc::new(schemas),
            metrics: Arc::new(metrics),
            lake,
            checkpoints,
            expectations,
            admission,
            event_partitions,
            merge_partitions,
            failure: Arc::new(Failure::default()),
        })
    }

    /// The application id of a topic's partition in the commits of the lake.
    pub fn app(&self, topic: &str, partition: u32) -> String {
        format!("{}/{topic}/{partition}", self.config.process.group)
    }

    pub fn producer_topics(&self) -> sluice_producer::ProducerTopics {
        sluice_producer::ProducerTopics {
            events: self.config.topics.events.clone(),
            dead_letters: self.config.topics.dead_letters.clone(),
            event_encoder: EventEncoder::new(self.config.topics.events_format, &self.schemas),
            dead_letter_codec: sluice_events::TopicCodec::new(self.schemas.subject(Subject::DeadLetters)),
        }
    }
}

/// The first failure of any thread. Everyone looks at it and stops.
#[derive(Default)]
pub(crate) struct Failure {
    failed: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl Failure {
    pub fn set(&self, error: anyhow::Error) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn take(&self) -> Result<()> {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Starts a named thread whose error stops the process.
pub(crate) fn spawn(
    name: String,
    failure: &Arc<Failure>,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    let failure = failure.clone();
    let what = name.clone();
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failure.set(error.context(what)),
                Err(_) => failure.set(anyhow::anyhow!("{what}: panicked; see the message above")),
            }
        })
        .context("start a thread")
}

/// Waits for a moment (milliseconds since 1970), unless it is to stop; says whether to go on.
pub(crate) fn wait_until(moment: i64, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Acquire) && now_millis() < moment {
        std::thread::sleep(TICK);
    }
    !stop.load(Ordering::Acquire)
}

pub(crate) fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
