//! The configuration: one typed tree, defaults in `sluice.toml`, read in one place.

use crate::{
    WrongUse, cluster_role::check_engine, lake_tables::checked_tables, publishing::PublishConfig, sql_role::SqlConfig,
};
use anyhow::{Context, Result};
use serde::Deserialize;
use sluice_alert_channels::AlertsConfig;
use sluice_event_log::LogConfig;
use sluice_events::{EventFormat, RegistryConfig, Subject, ValidationRules};
use sluice_feeds::FeedConfig;
use sluice_gold::GoldConfig;
use sluice_producer::SimulateConfig;
use sluice_quality::QualityConfig;
use sluice_sinks::{kpi_store::KpiStoreConfig, lake::LakeConfig};
use sluice_stream_processor::{StateLimits, TimeRules};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// All settings. What each means stands in `sluice.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct Config {
    pub dir: PathBuf,
    pub scratch_dir: PathBuf,
    pub feed: Vec<FeedConfig>,
    pub log: LogConfig,
    pub topics: TopicsConfig,
    pub registry: RegistryConfig,
    pub time: TimeConfig,
    pub process: ProcessConfig,
    pub merge: MergeConfig,
    pub checkpoints: CheckpointsConfig,
    pub lake: LakeConfig,
    pub sources: SourcesConfig,
    pub kpi_store: KpiStoreConfig,
    pub models: ModelsConfig,
    pub gold: GoldConfig,
    pub publish: PublishConfig,
    pub quality: QualityConfig,
    pub detect: DetectConfig,
    pub alerts: AlertsConfig,
    pub serve: ListenConfig,
    pub sql: SqlConfig,
    pub metrics: ListenConfig,
    pub simulate: SimulateConfig,
}

/// Names of topics, and what is in them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct TopicsConfig {
    pub events: String,
    pub events_format: EventFormat,
    pub partials: String,
    pub kpis: String,
    pub alerts: String,
    pub dead_letters: String,
    pub feeds: String,
    pub partitions: u32,
    pub merge_partitions: u32,
}

impl TopicsConfig {
    /// The topic of a subject, when its values are Avro.
    pub(crate) fn avro(&self, subject: Subject) -> Option<String> {
        let topic = match subject {
            Subject::Events if self.events_format != EventFormat::Avro => return None,
            Subject::Events => &self.events,
            Subject::Partials => &self.partials,
            Subject::Kpis => &self.kpis,
            Subject::Alerts => &self.alerts,
            Subject::DeadLetters => &self.dead_letters,
        };
        Some(topic.clone())
    }
}

/// Rules of event time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct TimeConfig {
    #[serde(with = "humantime_serde")]
    pub out_of_orderness: Duration,
    #[serde(with = "humantime_serde")]
    pub allowed_lateness: Duration,
    #[serde(with = "humantime_serde")]
    pub late_grain: Duration,
    #[serde(with = "humantime_serde")]
    pub max_future_skew: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub dedup_horizon: Duration,
    pub dedup_ids_max: usize,
}

impl TimeConfig {
    pub(crate) fn rules(&self) -> TimeRules {
        TimeRules {
            out_of_orderness: self.out_of_orderness,
            allowed_lateness: self.allowed_lateness,
            late_grain: self.late_grain,
            dedup_horizon: self.dedup_horizon,
        }
    }

    pub(crate) fn limits(&self, process: &ProcessConfig) -> StateLimits {
        StateLimits {
            dedup_ids_max: self.dedup_ids_max,
            groups_max: process.groups_max,
            state_bytes_max: process.state_bytes_max,
        }
    }

    pub(crate) fn validation(&self) -> ValidationRules {
        ValidationRules { max_future_skew: self.max_future_skew }
    }
}

/// Settings of the partition workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct ProcessConfig {
    pub group: String,
    pub partitions: PartitionChoice,
    pub batch_records: usize,
    pub value_bytes_max: usize,
    pub groups_max: usize,
    pub state_bytes_max: usize,
    #[serde(with = "humantime_serde")]
    pub provisional_interval: Duration,
}

/// Settings of the merge workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct MergeConfig {
    pub partitions: PartitionChoice,
}

/// Which partitions of a topic a process works on: `auto`, `all`, or a list such as `0-3,7`.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct PartitionChoice(String);

impl PartitionChoice {
    /// The partitions to work on, of `count`; none: as the group says.
    pub(crate) fn chosen(&self, count: u32, key: &str) -> Result<Option<Vec<u32>>> {
        match self.0.trim() {
            "auto" => return Ok(None),
            "all" => return Ok(Some((0..count).collect())),
            _ => {}
        }
        let mut chosen = Vec::new();
        for part in self.0.split(',').map(str::trim) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                text.trim().parse::<u32>().ok().filter(|p| *p < count).ok_or_else(|| {
                    let count = count - 1;
                    WrongUse(format!("{key}: '{text}' is no partition; the topic has 0 to {count}, or say auto or all"))
                })
            };
            chosen.extend(number(from)?..=number(to)?);
        }
        if chosen.is_empty() {
            return Err(WrongUse(format!("{key}: '{}' chooses none", self.0)).into());
        }
        chosen.sort_unstable();
        chosen.dedup();
        Ok(Some(chosen))
    }
}

/// Where checkpoints are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct CheckpointsConfig {
    pub url: String,
}

/// Where batch files are delivered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct SourcesConfig {
    pub url: String,
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    pub at_least: f64,
}

/// Where the user's models are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct ModelsConfig {
    pub dir: PathBuf,
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
}

/// What detectors are told beforehand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct DetectConfig {
    pub calendar: String,
    #[serde(with = "humantime_serde")]
    pub calendar_interval: Duration,
    pub clock_column: String,
    pub zones: BTreeMap<String, String>,
}

/// An address to listen on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct ListenConfig {
    pub listen: String,
}

/// A secret that stands in a setting or, when the setting `key` names one, in a file.
pub(crate) fn text_or_file(text: &str, file: &str, key: &str) -> Result<String> {
    match file {
        "" => Ok(text.to_owned()),
        file => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{key} {file}"))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

const DEFAULTS: &str = include_str!("../../sluice.toml");
/// It is put off a few times in its length, each time by a commit.
const LEASE_MIN: Duration = Duration::from_secs(1);
const VARIABLE_PREFIX: &str = "SLUICE__";

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub file: Option<PathBuf>,
    pub dir: Option<PathBuf>,
    pub set: Vec<String>,
}

impl Config {
    pub(crate) fn load(overrides: &Overrides) -> Result<Self> {
        let mut tree: Table = toml::from_str(DEFAULTS).context("read the built-in sluice.toml")?;
        let file = match &overrides.file {
            Some(file) => Some(file.clone()),
            None => Some(PathBuf::from("sluice.toml")).filter(|f| f.is_file()),
        };
        if let Some(file) = &file {
            let text = std::fs::read_to_string(file)
                .map_err(|e| WrongUse(format!("read config file {}: {e}", file.display())))?;
            let own: Table = toml::from_str(&text).map_err(|e| WrongUse(unreadable(file, &text, &e)))?;
            lay_over(&mut tree, own);
        }
        for (name, value) in std::env::vars() {
            if let Some(path) = name.strip_prefix(VARIABLE_PREFIX) {
                let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
                set(&mut tree, &path, &value).map_err(|e| WrongUse(format!("environment variable {name}: {e}")))?;
            }
        }
        for pair in &overrides.set {
            let (path, value) =
                pair.split_once('=').ok_or_else(|| WrongUse(format!("--set {pair}: give section.key=value")))?;
            let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
            set(&mut tree, &path, value.trim()).map_err(|e| WrongUse(format!("--set {}: {e}", path.join("."))))?;
        }
        if let Some(dir) = &overrides.dir {
            tree.insert("dir".to_owned(), Value::String(dir.display().to_string()));
        }
        let read = file.map_or(String::new(), |f| format!(" (config file: {})", f.display()));
        let mut config: Self = serde_path_to_error::deserialize(Value::Table(tree))
            .map_err(|e| WrongUse(format!("setting {}: {}{read}", e.path(), e.inner().message())))?;
        config.resolve();
        config.check()?;
        sluice_quality::compile(&config.quality, &checked_tables())
            .map_err(|e| WrongUse(format!("setting {e}{read}")))?;
        Ok(config)
    }

    /// Puts relative places below the data folder.
    fn resolve(&mut self) {
        let dir = self.dir.clone();
        let below = |path: &Path| if path.is_absolute() { path.to_owned() } else { dir.join(path) };
        self.scratch_dir = below(&self.scratch_dir);
        self.log.embedded.dir = below(&self.log.embedded.dir);
        self.kpi_store.dir = below(&self.kpi_store.dir);
        let lake = &mut self.lake;
        let places =
            [&mut lake.bronze, &mut lake.silver, &mut lake.gold, &mut self.checkpoints.url, &mut self.sources.url];
        for place in places {
            if !place.is_empty() && !place.contains("://") {
                *place = below(Path::new(place.as_str())).display().to_string();
            }
        }
    }

    fn check(&self) -> Result<()> {
        let positive = [
            ("topics.partitions", self.topics.partitions as usize),
            ("topics.merge_partitions", self.topics.merge_partitions as usize),
            ("process.batch_records", self.process.batch_records),
            ("process.value_bytes_max", self.process.value_bytes_max),
            ("process.groups_max", self.process.groups_max),
            ("process.state_bytes_max", self.process.state_bytes_max),
            ("time.dedup_ids_max", self.time.dedup_ids_max),
            ("gold.models_at_once", self.gold.models_at_once),
            ("gold.memory_bytes_max", self.gold.memory_bytes_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(WrongUse(format!("{key} must be above 0")).into());
            }
        }
        if self.gold.tries == 0 || self.gold.lease < LEASE_MIN {
            return Err(WrongUse("gold.tries must be 1 or more, and gold.lease 1s or more".to_owned()).into());
        }
        check_engine(&self.gold.engine)?;
        for (at, feed) in self.feed.iter().enumerate() {
            feed.check().map_err(WrongUse)?;
            if self.feed[..at].iter().any(|other| other.name == feed.name) {
                return Err(WrongUse(format!("two feeds are called {}", feed.name)).into());
            }
        }
        if self.time.late_grain.is_zero() || self.lake.roll_age.is_zero() {
            return Err(WrongUse("time.late_grain and lake.roll_age must be above 0".to_owned()).into());
        }
        for table in self.lake.retain.keys() {
            let is_filed_by_day = match table.split_once('.') {
                Some(("bronze", name)) => ["events", "dead_letters", "feeds"].contains(&name),
                Some(("silver", name)) => {
                    ["events", "quality"].contains(&name) || self.feed.iter().any(|feed| feed.name == name)
                }
                Some(("live" | "gold", name)) => !name.is_empty(),
                _ => false,
            };
            if !is_filed_by_day {
                return Err(WrongUse(format!(
                    "lake.retain: '{table}' is no table that is filed by days: bronze.events, bronze.dead_letters, bronze.feeds, \
                     silver.events, silver.quality, silver.<feed>, live.<model>, gold.<model>"
                ))
                .into());
            }
        }
        self.alerts.check().map_err(|error| WrongUse(error.to_string()))?;
        // A file without a commit is taken for one that a crash left behind when it is older than that.
        if self.lake.maintain.vacuum_after < self.lake.roll_age.saturating_mul(2) {
            return Err(WrongUse("lake.maintain.vacuum_after must be twice lake.roll_age or more".to_owned()).into());
        }
        Ok(())
    }
}

/// Names the line, and does not show it: there may be a password in it.
fn unreadable(file: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    format!("config file {}, line {line}: {}", file.display(), error.message())
}

fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Sets one key from a text, in the type that the default has.
fn set(tree: &mut Table, path: &[String], text: &str) -> Result<(), String> {
    let (last, sections) = path.split_last().ok_or("no key is named")?;
    let mut table = tree;
    for section in sections {
        table = match table.get_mut(section) {
            Some(Value::Table(table)) => table,
            _ => return Err(format!("there is no section '{section}'")),
        };
    }
    let value = match table.get(last) {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        Some(Value::Integer(_)) => Value::Integer(text.parse().map_err(|_| format!("'{text}' is no whole number"))?),
        Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| format!("'{text}' is no number"))?),
        Some(Value::Boolean(_)) => Value::Boolean(text.parse().map_err(|_| format!("'{text}' is not true or false"))?),
        // A key without a default: whatever TOML makes of the text, else text.
        _ => toml::from_str::<Table>(&format!("v = {text}"))
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| Value::String(text.to_owned())),
    };
    table.insert(last.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(set: &[&str]) -> Result<Config> {
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        Config::load(&Overrides { file: None, dir: Some("data".into()), set })
    }

    #[test]
    fn the_defaults_are_whole_and_a_wrong_key_is_named() {
        let config = load(&["time.allowed_lateness=5m", "simulate.rate=50", "lake.gold=s3://gold"]).unwrap();
        assert_eq!(config.time.allowed_lateness, Duration::from_secs(300));
        assert_eq!(config.lake.bronze, "data/lake/bronze");
        assert_eq!(config.lake.gold, "s3://gold");
        let mine = "quality.expectations.mine={table='silver.events', kind='volume', rows_at_most=9}";
        let config = load(&[mine, "quality.expectations.fresh.severity=off"]).unwrap();
        assert_eq!(config.quality.expectations["mine"].rows_at_most, Some(9));
        assert_eq!(config.quality.expectations["fresh"].severity, sluice_quality::Severity::Off);
        for (wrong, named) in [
            ("time.alowed_lateness=5m", "alowed_lateness"),
            ("tyme.x=1", "tyme"),
            ("topics.partitions=many", "many"),
            ("topics.partitions=0", "topics.partitions"),
            ("time.allowed_lateness=soon", "time.allowed_lateness"),
            ("quality.expectations.fresh.wihtin=5m", "quality.expectations.fresh.wihtin: unknown field `wihtin`"),
            (
                "quality.expectations.fresh.column=age",
                "setting quality.expectations.fresh.column: there is no column 'age'",
            ),
            (
                "quality.expectations.mine={table='silver.events', kind='validity', rule='random() > 0'}",
                "random() says",
            ),
            ("quality.expectations.purchases_have_a_price.at_least=nan", "at_least: NaN is no share"),
            ("topics.events_format=xml", "topics.events_format: unknown variant `xml`, expected `avro` or `json`"),
        ] {
            let error = format!("{:#}", load(&[wrong]).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn partitions_are_chosen_by_list_and_range() {
        let chosen = |text: &str, count| PartitionChoice(text.to_owned()).chosen(count, "process.partitions");
        assert_eq!(chosen("auto", 3).unwrap(), None);
        assert_eq!(chosen("all", 3).unwrap(), Some(vec![0, 1, 2]));
        assert_eq!(chosen("0-1, 3", 4).unwrap(), Some(vec![0, 1, 3]));
        assert!(chosen("0-1, 3", 3).unwrap_err().to_string().contains("process.partitions: '3'"));
        assert!(chosen("3-1", 4).is_err());
    }
}
