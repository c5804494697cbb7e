//! The live models while they run: a file that is changed, added or removed takes effect without a restart.

use crate::{
    Config,
    lake_tables::live,
    models::{self, ModelText},
};
use anyhow::Result;
use sluice_serve::{ModelInfo, ModelSource};
use sluice_sinks::lake::Lake;
use sluice_stream_processor::LiveModel;
use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// The models of now, for all threads of a process.
pub(crate) struct LiveModels {
    config: Arc<Config>,
    /// Counts the changes.
    generation: AtomicU64,
    current: RwLock<Arc<[LiveModel]>>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    /// The texts of all models, as they were when it last looked.
    texts: Vec<ModelText>,
    /// Why the texts of now do not fit their tables.
    told: Option<String>,
}

const REFUSED: &str = "the changed models are not taken: the old ones run on";

impl LiveModels {
    /// The models of the configuration.
    ///
    /// # Errors
    /// When one does not compile.
    pub fn load(config: &Arc<Config>) -> Result<Arc<Self>> {
        let texts = models::texts(config)?;
        let current = models::compile_texts(&texts)?;
        Ok(Arc::new(Self {
            config: config.clone(),
            generation: AtomicU64::new(0),
            current: RwLock::new(current),
            looked: Mutex::new(Looked { at: Instant::now(), texts, told: None }),
        }))
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn get(&self) -> Arc<[LiveModel]> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for changed files when it is time to. A text that does not compile, or does not fit its table, is told about,
    /// and nothing changes.
    pub fn look(&self, lake: Option<&Lake>) {
        let interval = self.config.models.reload_interval;
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if interval.is_zero() || looked.at.elapsed() < interval {
            return;
        }
        looked.at = Instant::now();
        let texts = match models::texts(&self.config) {
            Ok(texts) => texts,
            Err(error) => return tracing::warn!(error = format!("{error:#}"), "the models cannot be read now"),
        };
        if texts == looked.texts {
            return;
        }
        let compiled = models::compile_texts(&texts);
        let fits = compiled.as_ref().map_or(Ok(()), |models| tables_fit(lake, models));
        if let Err(error) = fits {
            // The lake may only be away: it is asked again next time, and the same answer is told once.
            let told = Some(format!("{error:#}"));
            if looked.told != told {
                tracing::error!(error = told, "{REFUSED}");
                looked.told = told;
            }
            return;
        }
        looked.told = None;
        let before = std::mem::replace(&mut looked.texts, texts);
        drop(looked);
        let compiled = match compiled {
            Ok(models) => models,
            Err(error) => return tracing::error!(error = format!("{error:#}"), "{REFUSED}"),
        };
        let was_known = |model: &&LiveModel| before.iter().any(|b| b.name == model.name && b.text == model.sql);
        let new: Vec<&str> = compiled.iter().filter(|m| !was_known(m)).map(|m| &*m.name).collect();
        let gone: Vec<&str> =
            before.iter().map(|b| &*b.name).filter(|n| !compiled.iter().any(|m| m.name == *n)).collect();
        tracing::info!(changed = new.join(", "), removed = gone.join(", "), "models reloaded");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = compiled;
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

impl ModelSource for LiveModels {
    fn models(&self) -> Vec<ModelInfo> {
        self.get().iter().map(models::info).collect()
    }
}

/// A model whose columns are others than its table's cannot be taken while it runs, nor at the next start.
fn tables_fit(lake: Option<&Lake>, models: &[LiveModel]) -> Result<()> {
    for model in models {
        if let Some(lake) = lake {
            lake.table(live(model))?;
        }
    }
    Ok(())
}
