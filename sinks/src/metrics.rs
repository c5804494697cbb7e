//! Everything that is measured, by name.

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::HashMap;

/// The kinds of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    IntGauge,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($name:ident = $series:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        /// The name of every series sluice exposes. Base units; counters end in `_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric { $(#[doc = $help] $name),* }

        impl Metric {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in Prometheus.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $series),* }
            }

            const fn spec(self) -> (Kind, &'static [&'static str], &'static str) {
                match self { $(Self::$name => (Kind::$kind, &[$($label),*], $help)),* }
            }
        }
    };
}

metrics! {
    RecordsReceived = "sluice_records_received_total", Counter, ["topic"], "Records read from a topic. Equals processed + duplicate + invalid + dead-lettered (decode).";
    EventsProcessed = "sluice_events_processed_total", Counter, [], "Events taken into silver, late ones included.";
    EventsLate = "sluice_events_late_total", Counter, ["event_type"], "Events in silver that came too late for their panes.";
    EventsDuplicate = "sluice_events_duplicate_total", Counter, [], "Events whose id was seen before in the dedup horizon.";
    EventsInvalid = "sluice_events_invalid_total", Counter, ["reason"], "Events that decode but break a rule; in bronze and dead letters.";
    DeadLetters = "sluice_dead_letters_total", Counter, ["stage", "reason"], "Dead letters written, by stage and reason.";
    IncompatibleSchemas = "sluice_incompatible_schemas", IntGauge, ["topic", "schema_id"], "1 for each writer's schema met since the start that cannot be read as events; its records are dead letters.";
    ProducedEvents = "sluice_produced_events_total", Counter, [], "Events that the built-in producer appended.";
    ConsumerLag = "sluice_consumer_lag_records", IntGauge, ["topic", "partition"], "Records between the worker and the partition's end.";
    WatermarkLag = "sluice_watermark_lag_seconds", Gauge, ["partition"], "Wall clock minus the partition's watermark.";
    DedupEntries = "sluice_dedup_entries", IntGauge, ["partition"], "Event ids remembered for deduplication.";
    OpenPanes = "sluice_open_panes", IntGauge, ["model", "role", "partition"], "Groups of open windows held in memory, and fragments of sessions, by partition workers (process) and merge workers (merge).";
    StateBytes = "sluice_state_bytes", IntGauge, ["stage", "partition"], "Memory of a stage, about: dedup, a model's open windows, merge.";
    GroupsOverflow = "sluice_groups_overflow_total", Counter, ["model"], "Events counted under __other__ because there were too many groups.";
    PanesPublished = "sluice_panes_published_total", Counter, ["model", "state"], "Panes published, by state.";
    PartialsDropped = "sluice_partials_after_seal_total", Counter, ["model"], "Partial panes that came after their window was sealed.";
    PartialsUnknown = "sluice_partials_unknown_model_total", Counter, ["model"], "Partial panes of models that the merge worker does not know, or knows with another text.";
    QualityRatio = "sluice_quality_ratio", Gauge, ["expectation", "table"], "Share of rows that met an expectation at the last commit; of freshness and volume, 1 when it was met, else 0.";
    QualityFailed = "sluice_quality_failed_total", Counter, ["expectation", "severity"], "Commits at which an expectation was not met.";
    QuarantinedRows = "sluice_quarantined_rows_total", Counter, ["expectation"], "Events that broke a hard expectation; in bronze and dead letters, not in silver.";
    RowsWritten = "sluice_lake_rows_written_total", Counter, ["table"], "Rows committed to a lake table.";
    FilesWritten = "sluice_lake_files_written_total", Counter, ["table"], "Parquet files committed to a lake table.";
    BytesWritten = "sluice_lake_bytes_written_total", Counter, ["table"], "Bytes of Parquet committed to a lake table.";
    LakeFiles = "sluice_lake_files", IntGauge, ["table", "smaller_than"], "Parquet files of a lake table, by size class.";
    LakeBytes = "sluice_lake_bytes", IntGauge, ["table"], "Bytes of the Parquet files of a lake table.";
    LakeRows = "sluice_lake_rows", IntGauge, ["table"], "Rows of a lake table, by its statistics.";
    LakeLogTail = "sluice_lake_log_tail_commits", IntGauge, ["table"], "Commits of a lake table since the last checkpoint of its log: what a reader goes through.";
    LakeLogFiles = "sluice_lake_log_files", IntGauge, ["table"], "Files of a lake table's log.";
    FilesCompacted = "sluice_lake_files_compacted_total", Counter, ["table"], "Small files that were merged into larger ones.";
    RowsRetired = "sluice_lake_rows_retired_total", Counter, ["table"], "Rows dropped because they were kept long enough.";
    FilesVacuumed = "sluice_lake_files_vacuumed_total", Counter, ["table"], "Files removed that no version of a table needs.";
    LoadedRows = "sluice_loaded_rows_total", Counter, ["table", "outcome"], "Rows of delivered batch files, by what became of them.";
    LoadFailures = "sluice_load_failures_total", Counter, ["kind"], "Delivered batch files that could not be loaded.";
    MaintenanceFailures = "sluice_lake_maintenance_failures_total", Counter, ["table"], "Times that looking after a table failed; it is tried again.";
    CommitDuration = "sluice_commit_duration_seconds", Histogram, ["table"], "Time of one Delta commit.";
    CheckpointDuration = "sluice_checkpoint_duration_seconds", Histogram, ["role"], "Time to write one checkpoint.";
    CheckpointBytes = "sluice_checkpoint_bytes", IntGauge, ["role", "partition"], "Size of the newest checkpoint.";
    KpiWrites = "sluice_kpi_writes_total", Counter, [], "Panes written to the KPI store.";
    AnomalyScore = "sluice_anomaly_score", Gauge, ["model", "measure"], "Largest score of what is unusual, over all series, in the newest final window; 0 when nothing is.";
    AlertsFiring = "sluice_alerts_firing", IntGauge, ["model", "severity"], "Alerts that fire now.";
    Alerts = "sluice_alerts_total", Counter, ["model", "severity"], "Alerts raised.";
    DetectorSeries = "sluice_detector_series", IntGauge, ["model", "detector"], "Numbers that are watched: series and roll-ups, each measure by itself.";
    DetectorWarmingUp = "sluice_detector_series_warming_up", IntGauge, ["model", "detector"], "Of these, how many have not been seen for long enough to be judged.";
    DetectorDropped = "sluice_detector_series_dropped", IntGauge, ["model", "detector"], "Groups that are not watched because there are too many.";
    DetectorBytes = "sluice_detector_state_bytes", IntGauge, ["model", "detector"], "Memory that a detector holds, about.";
    DetectorLastWindow = "sluice_detector_last_window_timestamp_seconds", Gauge, ["model", "detector"], "Start of the last window that was judged, in event time, seconds since 1970.";
    AlertsSent = "sluice_alert_notices_sent_total", Counter, ["receiver"], "Notices of alerts that a receiver has taken.";
    AlertAttemptsFailed = "sluice_alert_notice_failures_total", Counter, ["receiver"], "Attempts to send a notice that failed.";
    AlertsDropped = "sluice_alert_notices_dropped_total", Counter, ["receiver", "reason"], "Notices that were given up: the backlog was full, the receiver refused them, or was away for too long.";
    AlertBacklog = "sluice_alert_notices_waiting", IntGauge, ["receiver"], "Notices that wait for a receiver.";
    GoldRuns = "sluice_gold_runs_total", Counter, ["model", "outcome"], "Times that a table of gold was made (done), or could not be (failed).";
    GoldFailing = "sluice_gold_failing", IntGauge, ["model"], "1 when a table of gold could not be made the last time: it is the last good one; else 0.";
    GoldRunSeconds = "sluice_gold_run_seconds", Gauge, ["model"], "How long it took to make a table of gold, the last time.";
    GoldMade = "sluice_gold_made_timestamp_seconds", Gauge, ["model"], "When a table of gold was made last by this process, seconds since 1970.";
    FeedAnswers = "sluice_feed_requests_total", Counter, ["feed", "outcome"], "Items that a feed was asked for: answered or failed.";
    FeedFailing = "sluice_feed_failing", IntGauge, ["feed"], "1 when an item of a feed got no answer the last time; else 0.";
    FeedRows = "sluice_feed_rows_total", Counter, ["feed", "outcome"], "Answers of a feed: new ones, known ones, and those that are dead letters (refused).";
    PublishLag = "sluice_publish_lag_seconds", Gauge, ["target", "name"], "From the commit of the newest published version of a table of gold until it could be read at the target.";
    PublishFailing = "sluice_publish_failing", IntGauge, ["target", "name"], "1 when a table of gold could not be published the last time; else 0.";
    Uptime = "sluice_start_time_seconds", Gauge, [], "When this process started, seconds since 1970.";
    BuildInfo = "sluice_build_info", IntGauge, ["version"], "Always 1.";
}

/// All series of this process.
pub struct Metrics {
    registry: Registry,
    counters: HashMap<Metric, IntCounterVec>,
    int_gauges: HashMap<Metric, IntGaugeVec>,
    gauges: HashMap<Metric, GaugeVec>,
    histograms: HashMap<Metric, HistogramVec>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const PROOF: &str = "names and labels of the enum are valid and unique";

impl Metrics {
    /// Registers every series.
    pub fn new() -> Self {
        let registry = Registry::new();
        let mut metrics = Self {
            registry,
            counters: HashMap::new(),
            int_gauges: HashMap::new(),
            gauges: HashMap::new(),
            histograms: HashMap::new(),
        };
        let process = prometheus::process_collector::ProcessCollector::for_self();
        metrics.registry.register(Box::new(process)).expect(PROOF);
        for metric in Metric::ALL {
            let (kind, labels, help) = metric.spec();
            let opts = Opts::new(metric.name(), help);
            match kind {
                Kind::Counter => {
                    let series = IntCounterVec::new(opts, labels).expect(PROOF);
                    metrics.registry.register(Box::new(series.clone())).expect(PROOF);
                    metrics.counters.insert(*metric, series);
                }
                Kind::IntGauge => {
                    let series = IntGaugeVec::new(opts, labels).expect(PROOF);
                    metrics.registry.register(Box::new(series.clone())).expect(PROOF);
                    metrics.int_gauges.insert(*metric, series);
                }
                Kind::Gauge => {
                    let series = GaugeVec::new(opts, labels).expect(PROOF);
                    metrics.registry.register(Box::new(series.clone())).expect(PROOF);
                    metrics.gauges.insert(*metric, series);
                }
                Kind::Histogram => {
                    let series = HistogramVec::new(HistogramOpts::from(opts), labels).expect(PROOF);
                    metrics.registry.register(Box::new(series.clone())).expect(PROOF);
                    metrics.histograms.insert(*metric, series);
                }
            }
        }
        metrics
    }

    /// Adds to a counter. A metric of another kind, or wrong labels, is a mistake in the program and does nothing.
    pub fn add(&self, metric: Metric, labels: &[&str], n: u64) {
        if let Some(Ok(series)) = self.counters.get(&metric).map(|c| c.get_metric_with_label_values(labels)) {
            series.inc_by(n);
        } else {
            debug_assert!(false, "{} is no counter with labels {labels:?}", metric.name());
        }
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, labels: &[&str], value: f64) {
        if let Some(Ok(series)) = self.gauges.get(&metric).map(|g| g.get_metric_with_label_values(labels)) {
            series.set(value);
        } else if let Some(Ok(series)) = self.int_gauges.get(&metric).map(|g| g.get_metric_with_label_values(labels)) {
            series.set(value as i64);
        } else {
            debug_assert!(false, "{} is no gauge with labels {labels:?}", metric.name());
        }
    }

    /// Forgets a gauge's series: what it spoke of is no longer here.
    pub fn remove(&self, metric: Metric, labels: &[&str]) {
        if let Some(gauges) = self.gauges.get(&metric) {
            let _ = gauges.remove_label_values(labels);
        } else if let Some(gauges) = self.int_gauges.get(&metric) {
            let _ = gauges.remove_label_values(labels);
        }
    }

    /// Records a duration in a histogram.
    pub fn observe(&self, metric: Metric, labels: &[&str], seconds: f64) {
        if let Some(Ok(series)) = self.histograms.get(&metric).map(|h| h.get_metric_with_label_values(labels)) {
            series.observe(seconds);
        } else {
            debug_assert!(false, "{} is no histogram with labels {labels:?}", metric.name());
        }
    }

    /// The sum of a counter over all its labels.
    pub fn total(&self, metric: Metric) -> u64 {
        self.registry
            .gather()
            .iter()
            .filter(|family| family.name() == metric.name())
            .flat_map(|family| family.get_metric())
            .map(|m| m.get_counter().get_value() as u64)
            .sum()
    }

    /// All series in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory cannot fail, and the encoder writes UTF-8.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
