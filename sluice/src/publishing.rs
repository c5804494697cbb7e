//! Publishing tables of gold to MongoDB and PostgreSQL, as section `[publish]` chooses them.

use crate::{Config, WrongUse, config::text_or_file, gold_runs::GoldModels};
use anyhow::{Context, Result, anyhow};
use datafusion::{error::DataFusionError, physical_plan::SendableRecordBatchStream};
use futures::StreamExt;
use serde::Deserialize;
use sluice_gold::GoldModel;
use sluice_sinks::{
    Metric, Metrics,
    lake::{Bucket, DeltaTable, Lake, read_rows},
    publish::{Edition, MongoPublisher, PostgresPublisher, Published, Publisher},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// Section `[publish]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct PublishConfig {
    pub mongodb: MongoTarget,
    pub postgres: PostgresTarget,
}

/// Section `[publish.mongodb]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct MongoTarget {
    uri: String,
    uri_file: String,
    pub database: String,
    pub collections: BTreeMap<String, String>,
}

/// Section `[publish.postgres]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct PostgresTarget {
    url: String,
    url_file: String,
    pub schema: String,
    pub tables: BTreeMap<String, String>,
}

impl fmt::Debug for MongoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoTarget").field("database", &self.database).finish_non_exhaustive()
    }
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Where to publish.
struct Target<'a> {
    kind: &'static str,
    /// Names there, and the tables of gold.
    chosen: &'a BTreeMap<String, String>,
    connect: Box<dyn Fn() -> Result<Box<dyn Publisher>> + 'a>,
}

impl PublishConfig {
    /// The targets that are on.
    fn targets(&self) -> Result<Vec<Target<'_>>> {
        let mut targets = Vec::new();
        let Self { mongodb, postgres } = self;
        let uri = text_or_file(&mongodb.uri, &mongodb.uri_file, "publish.mongodb.uri_file")?;
        if !uri.is_empty() {
            let connect = Box::new(move || -> Result<Box<dyn Publisher>> {
                Ok(Box::new(MongoPublisher::connect(&uri, &mongodb.database)?))
            });
            targets.push(Target { kind: "mongodb", chosen: &mongodb.collections, connect });
        }
        let url = text_or_file(&postgres.url, &postgres.url_file, "publish.postgres.url_file")?;
        if !url.is_empty() {
            let connect = Box::new(move || -> Result<Box<dyn Publisher>> {
                Ok(Box::new(PostgresPublisher::connect(&url, &postgres.schema)?))
            });
            targets.push(Target { kind: "postgres", chosen: &postgres.tables, connect });
        }
        Ok(targets)
    }

    /// Whether there is any target.
    pub fn is_on(&self) -> Result<bool> {
        Ok(!self.targets()?.is_empty())
    }
}

/// What became of what is to be published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub published: usize,
    pub current: usize,
    pub failed: usize,
}

/// What publishing needs.
pub(crate) struct Publishing<'a> {
    pub config: &'a Config,
    pub lake: &'a Lake,
    pub runtime: &'a tokio::runtime::Handle,
    pub metrics: &'a Metrics,
    /// Those whose tables can be published.
    pub models: &'a GoldModels,
}

impl Publishing<'_> {
    /// Publishes the chosen tables whose edition is not there yet, or all of them when `again`; `tell` hears of each, by its
    /// target, its name there and what became of it. A table that fails does not stop the others.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn run(
        &self,
        again: bool,
        stop: &AtomicBool,
        mut tell: impl FnMut(&str, &str, Result<&Published, &anyhow::Error>),
    ) -> Result<Told> {
        let mut told = Told::default();
        for Target { kind, chosen, connect } in self.config.publish.targets()? {
            let mut connected: Option<Box<dyn Publisher>> = None;
            for (name, table) in chosen.iter().filter(|(_, table)| !table.is_empty()) {
                if stop.load(Ordering::Acquire) {
                    return Ok(told);
                }
                let published = self.model(kind, name, table)?.and_then(|model| {
                    let Some(found) = self.lake.find(Bucket::Gold, &model.name)? else { return Ok(Outcome::NotMade) };
                    if connected.is_none() {
                        connected = Some(connect()?);
                    }
                    let publisher = connected.as_deref_mut().context("the target is connected")?;
                    self.publish(publisher, name, model, &found, again)
                });
                let failing = f64::from(u8::from(published.is_err()));
                self.metrics.set(Metric::PublishFailing, &[kind, name], failing);
                match &published {
                    Ok(Outcome::NotMade) => {}
                    Ok(Outcome::ThereAlready) => told.current += 1,
                    Ok(Outcome::Published(published)) => {
                        told.published += 1;
                        self.metrics.set(Metric::PublishLag, &[kind, name], published.lag_seconds());
                        tell(kind, name, Ok(published));
                    }
                    Err(error) => {
                        told.failed += 1;
                        tell(kind, name, Err(error));
                    }
                }
            }
        }
        Ok(told)
    }

    /// The model of a table that is chosen, or why it cannot be published.
    ///
    /// # Errors
    /// When no text has this name.
    fn model(&self, kind: &str, name: &str, table: &str) -> Result<Result<&GoldModel>> {
        let wanted = table.strip_prefix("gold.").unwrap_or(table);
        let section = if kind == "mongodb" { "collections" } else { "tables" };
        let key = format!("publish.{kind}.{section}.{name}");
        if self.models.broken.contains_key(wanted) {
            return Ok(Err(anyhow!("the text of gold.{wanted} is no model")));
        }
        let found = self.models.sound.iter().find(|model| model.name == wanted);
        let found =
            found.ok_or_else(|| WrongUse(format!("{key}: no model makes gold.{wanted}; see sluice gold list")))?;
        Ok(match found.header.key.is_empty() {
            true => Err(anyhow!("gold.{wanted} has no key: its text needs '-- key: column, …'")),
            false => Ok(found),
        })
    }

    fn publish(
        &self,
        publisher: &mut dyn Publisher,
        name: &str,
        model: &GoldModel,
        found: &DeltaTable,
        again: bool,
    ) -> Result<Outcome> {
        let (edition, stream) = self.runtime.block_on(edition(model, found))?;
        if !again && publisher.published(name)?.is_some_and(|there| there.is(&edition)) {
            return Ok(Outcome::ThereAlready);
        }
        let mut rows = Blocking { stream, runtime: self.runtime };
        let published = publisher.publish(name, &edition, &mut rows)?;
        Ok(if published.is(&edition) { Outcome::Published(published) } else { Outcome::ThereAlready })
    }
}

/// What became of a table.
enum Outcome {
    Published(Published),
    /// This edition, or a newer one.
    ThereAlready,
    /// There is no such table yet.
    NotMade,
}

/// What the newest change of rows made of a table, without the column by which it is filed.
async fn edition(model: &GoldModel, found: &DeltaTable) -> Result<(Edition, SendableRecordBatchStream)> {
    let mut version = found.version().unwrap_or_default() as i64;
    let mut commits = found.history(None);
    let mut newest = commits.next().await.context("a table has a commit")??;
    // Files that were written anew or removed are no news to a reader.
    while version > 0
        && newest.operation.as_deref().is_some_and(|deed| deed == "OPTIMIZE" || deed.starts_with("VACUUM"))
    {
        let Some(before) = commits.next().await else { break };
        (newest, version) = (before?, version - 1);
    }
    let by = model.header.partition.as_ref().map(|by| by.column());
    let frame = read_rows(found).await?;
    let frame = by.map_or(Ok(frame.clone()), |by| frame.drop_columns(&[by]))?;
    let stream = frame.execute_stream().await?;
    let edition = Edition {
        table: model.table(),
        key: model.header.key.clone(),
        schema: stream.schema(),
        version,
        committed_at: newest.timestamp.unwrap_or_default(),
    };
    Ok((edition, stream))
}

/// The batches of a stream, for who blocks.
struct Blocking<'a> {
    stream: SendableRecordBatchStream,
    runtime: &'a tokio::runtime::Handle,
}

impl Iterator for Blocking<'_> {
    type Item = Result<arrow::array::RecordBatch, DataFusionError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.stream.next())
    }
}
