//! The keys of other tables of the lake, for expectations of integrity.

use anyhow::{Context, Result, bail};
use datafusion::prelude::ident;
use futures::StreamExt;
use sluice_quality::{KeySet, Reference};
use sluice_sinks::lake::{Lake, SCHEMAS, read_rows};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often the tables are looked at: they change when a file is loaded.
const INTERVAL: Duration = Duration::from_secs(60);
/// More keys are too many to remember: 8 to 20 bytes each.
const KEYS_MAX: usize = 20_000_000;

pub(crate) struct ReferenceKeys {
    lake: Lake,
    runtime: tokio::runtime::Handle,
    sets: BTreeMap<Reference, Known>,
    looked: Option<Instant>,
}

#[derive(Default)]
struct Known {
    version: Option<u64>,
    keys: Option<KeySet>,
    /// Why there are no keys, as it was told last.
    told: Option<String>,
}

impl ReferenceKeys {
    pub fn new(lake: Lake, runtime: tokio::runtime::Handle, references: impl Iterator<Item = Reference>) -> Self {
        let sets = references.map(|reference| (reference, Known::default())).collect();
        Self { lake, runtime, sets, looked: None }
    }

    /// None when the table is not there: what refers to it cannot be judged.
    pub fn get(&self, reference: &Reference) -> Option<&KeySet> {
        self.sets.get(reference)?.keys.as_ref()
    }

    /// Reads again what has changed, when it is time to. What cannot be read is told about, and stays as it was.
    pub fn refresh(&mut self) {
        if self.sets.is_empty() || self.looked.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        self.looked = Some(Instant::now());
        for (reference, known) in &mut self.sets {
            match read(&self.lake, &self.runtime, reference, known.version) {
                Ok(None) => {}
                Ok(Some((version, keys))) => {
                    tracing::info!(%reference, keys = keys.len(), "keys read");
                    *known = Known { version, keys: Some(keys), told: None };
                }
                Err(error) => {
                    let told = Some(format!("{error:#}"));
                    if known.told != told {
                        tracing::warn!(%reference, error = told, "keys cannot be read: what refers to them is not judged anew");
                        known.told = told;
                    }
                }
            }
        }
    }
}

/// The keys of a table, unless it still is at this version.
#[allow(clippy::type_complexity, reason = "a version and the keys at it")]
fn read(
    lake: &Lake,
    runtime: &tokio::runtime::Handle,
    reference: &Reference,
    known: Option<u64>,
) -> Result<Option<(Option<u64>, KeySet)>> {
    let Some((_, bucket, below)) = SCHEMAS.into_iter().find(|(name, ..)| *name == reference.schema) else {
        bail!("there is no schema '{}'; there are bronze, silver, gold, live", reference.schema);
    };
    let path = format!("{below}/{}", reference.table);
    let table = lake
        .find(bucket, path.trim_start_matches('/'))?
        .with_context(|| format!("there is no table {}.{} yet", reference.schema, reference.table))?;
    let version = table.version();
    if version.is_some() && version == known {
        return Ok(None);
    }
    runtime.block_on(async {
        let mut batches = read_rows(&table).await?.select(vec![ident(&reference.column)])?.execute_stream().await?;
        let mut keys = KeySet::default();
        while let Some(batch) = batches.next().await {
            keys.add(batch?.column(0))?;
            if keys.len() > KEYS_MAX {
                bail!("there are more than {KEYS_MAX} keys");
            }
        }
        Ok(Some((version, keys)))
    })
}
