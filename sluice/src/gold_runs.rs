//! Making tables of gold: by command, and by the schedule of the settings.

use crate::{
    Config, WrongUse,
    caretaker::keep_short,
    cluster_role::{self, LOCAL},
    learning::learners,
    models::{ModelText, walk_texts},
    pipeline::{now_millis, wait_until},
    publishing::{Publishing, Told},
    query,
};
use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use sluice_gold::{GoldModel, Graph, Lease, ModelError, Outcome, ROOMS, Run, Runner, in_turn, runs_table};
use sluice_sinks::{
    Metric, Metrics,
    lake::{Lake, LakeError},
};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../models/gold");

/// The models of gold, those shipped and the user's, and the texts that are none.
pub(crate) struct GoldModels {
    pub sound: Vec<GoldModel>,
    pub broken: BTreeMap<String, ModelError>,
}

impl GoldModels {
    /// Reads them; a file of the user replaces the shipped one of the same name.
    ///
    /// # Errors
    /// When the folder cannot be read, or two models have one name.
    pub fn load(config: &Config) -> Result<Self> {
        let state = datafusion::prelude::SessionContext::new().state();
        let mut rooms: BTreeMap<String, (&str, ModelText)> = BTreeMap::new();
        for room in ROOMS {
            for text in walk_texts(SHIPPED.get_dir(room), &config.models.dir.join("gold").join(room))? {
                if let Some((other, _)) = rooms.get(&text.name) {
                    return Err(
                        WrongUse(format!("two models are called {}: in {other} and in {room}", text.name)).into()
                    );
                }
                rooms.insert(text.name.clone(), (room, text));
            }
        }
        let mut models = Self { sound: Vec::new(), broken: BTreeMap::new() };
        for (name, (room, text)) in rooms {
            match GoldModel::parse(&name, room, &text.text, text.file.clone(), &state) {
                Ok(model) => models.sound.push(model),
                Err(error) => drop(models.broken.insert(name, error.in_file(text.file.as_deref()))),
            }
        }
        Ok(models)
    }
}

/// What became of the models that were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub done: usize,
    pub current: usize,
    pub failed: usize,
    /// What they read is not there yet.
    pub waiting: usize,
    /// What was published of them.
    pub published: Told,
    /// A signal came before all was done.
    pub stopped: bool,
}

/// What was done about a model.
enum Step {
    /// It was run.
    Ran(Run),
    /// Nothing: its table is what a run would make of it.
    Current,
    /// Nothing: what it reads is not there yet.
    Waiting,
    /// Nothing: a signal came before.
    Stopped,
}

/// What runs need.
pub(crate) struct GoldRuns {
    config: Arc<Config>,
    runtime: tokio::runtime::Handle,
    metrics: Arc<Metrics>,
}

impl GoldRuns {
    pub fn new(config: Arc<Config>, runtime: tokio::runtime::Handle, metrics: Arc<Metrics>) -> Self {
        Self { config, runtime, metrics }
    }

    /// Makes the tables of these models (none: all) and of those that they read, where inputs or text have changed, or all of
    /// them; `tell` hears of each. None when another process is at it. When `stop` is set, ends those that it has begun.
    ///
    /// # Errors
    /// When the lake cannot be read, or the history not be written. A model that fails is no error.
    pub fn run(
        &self,
        names: &[String],
        full: bool,
        stop: &AtomicBool,
        mut tell: impl FnMut(&Run),
    ) -> Result<Option<Made>> {
        let all = GoldModels::load(&self.config)?;
        let sound = &all.sound;
        let graph = Graph::new(sound, all.broken.clone());
        let lake = Lake::new(self.config.lake.clone(), self.runtime.clone());
        let settings = &self.config.gold;
        let runs = lake.table(runs_table())?;
        let Some(lease) = Lease::take(runs, settings.lease, now_millis)? else { return Ok(None) };
        // After the lease was taken: what another run has made is seen.
        let session = query::lake_session(&self.config, &self.runtime)?;
        let engine = match settings.engine.as_str() {
            LOCAL => None,
            url => Some(cluster_role::connect(url, &self.config, &session, sound, &self.runtime)?),
        };
        let runner = Runner::new(lake.clone(), session, self.runtime.clone(), lease, settings.clone(), now_millis)?;
        let runner = runner.knowing(sound, learners());
        let runner = match engine {
            Some(engine) => runner.on(engine),
            None => runner,
        };
        let mut made = Made::default();
        let models = graph.needed(names);
        let is_asked_for = |name: &String| {
            names.is_empty() || names.contains(name) || models.iter().any(|m| m.needs().any(|need| need == name))
        };
        let mut ended = |made: &mut Made, run: &Run| {
            match run.outcome {
                Outcome::Done => made.done += 1,
                Outcome::Failed => made.failed += 1,
            }
            self.count(run);
            tell(run);
        };
        for (name, why) in graph.faults().iter().filter(|(name, _)| is_asked_for(name)) {
            ended(&mut made, &runner.refuse(name, why).context("note the run")?);
        }
        let work = |model| {
            if stop.load(Ordering::Acquire) {
                return Ok(Step::Stopped);
            }
            if let Some(table) = runner.waits_for(model) {
                tracing::debug!(model = model.name, table, "waits for a table that is not there yet");
                return Ok(Step::Waiting);
            }
            match !full && runner.is_current(model) {
                true => Ok(Step::Current),
                false => runner.run(model, full).map(Step::Ran),
            }
        };
        let flow = in_turn(&models, settings.models_at_once, work, |model, step| {
            match step {
                Ok(Step::Ran(run)) => ended(&mut made, &run),
                Ok(Step::Waiting) => made.waiting += 1,
                Ok(Step::Current) => {
                    made.current += 1;
                    // It may have been made by somebody else since it failed here.
                    self.metrics.set(Metric::GoldFailing, &[&model.name], 0.0);
                }
                Ok(Step::Stopped) => made.stopped = true,
                Err(error) => return ControlFlow::Break(error),
            }
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(error) = flow {
            return Err(error).context("note the run");
        }
        if let Err(error) = self.keep_history_short(&lake, stop) {
            tracing::warn!(%error, "the history of runs cannot be kept short now");
        }
        if !made.stopped {
            made.published = self.publish(&lake, &all, false, stop)?;
        }
        // Held until here: one publishes at a time.
        drop(runner);
        Ok(Some(made))
    }

    /// Each run leaves a file for each model, and reads them all.
    fn keep_history_short(&self, lake: &Lake, stop: &AtomicBool) -> Result<(), LakeError> {
        match lake.kept_table(&runs_table().name)? {
            Some(mut runs) => keep_short(&mut runs, &self.config.lake, &self.metrics, stop),
            None => Ok(()),
        }
    }

    /// Publishes what section `[publish]` chooses, where it is not there yet or, when `again`, anyhow.
    fn publish(&self, lake: &Lake, models: &GoldModels, again: bool, stop: &AtomicBool) -> Result<Told> {
        let (config, runtime, metrics) = (&self.config, &self.runtime, &self.metrics);
        let publishing = Publishing { config, lake, runtime, metrics, models };
        publishing.run(again, stop, |target, name, outcome| match outcome {
            Ok(done) => {
                let (table, rows, changed, lag) = (&done.table, done.rows, done.changed, done.lag_seconds());
                tracing::info!(target, name, table, rows, changed, lag_seconds = lag, "published");
            }
            Err(error) => tracing::error!(target, name, error = crate::causes(error), "could not be published"),
        })
    }

    /// Publishes all that section `[publish]` chooses, whether or not it is there; None when another process makes tables.
    ///
    /// # Errors
    /// When a setting is wrong or the lake cannot be read. A table that cannot be published is no error.
    pub fn publish_again(&self, stop: &AtomicBool) -> Result<Option<Told>> {
        let lake = Lake::new(self.config.lake.clone(), self.runtime.clone());
        let Some(_lease) = Lease::take(lake.table(runs_table())?, self.config.gold.lease, now_millis)? else {
            return Ok(None);
        };
        self.publish(&lake, &GoldModels::load(&self.config)?, true, stop).map(Some)
    }

    fn count(&self, run: &Run) {
        self.metrics.add(Metric::GoldRuns, &[&run.model, run.outcome.name()], 1);
        self.metrics.set(Metric::GoldFailing, &[&run.model], f64::from(u8::from(run.outcome == Outcome::Failed)));
        if run.outcome == Outcome::Done {
            let seconds = (run.ended_at - run.started_at) as f64 / 1000.0;
            self.metrics.set(Metric::GoldRunSeconds, &[&run.model], seconds);
            self.metrics.set(Metric::GoldMade, &[&run.model], run.ended_at as f64 / 1000.0);
        }
    }

    /// Runs by the schedule of the settings until `stop` is set. What fails is logged, and tried again at the next time.
    pub fn follow_schedule(&self, stop: &AtomicBool) {
        let schedule = &self.config.gold.schedule;
        let mut next = schedule.next(now_millis());
        while let Some(at) = next
            && wait_until(at, stop)
        {
            let failed = |run: &Run| {
                if let Some(error) = &run.error {
                    tracing::error!(
                        model = run.model,
                        error,
                        "a table of gold could not be made; the last good one stays"
                    );
                }
            };
            match self.run(&[], false, stop, failed) {
                Ok(Some(made)) => tracing::info!(made.done, made.current, made.failed, "gold: tables made"),
                Ok(None) => tracing::info!("gold: another process is making the tables"),
                Err(error) => {
                    tracing::error!(error = crate::causes(&error), "gold: the tables could not be made; trying again")
                }
            }
            next = schedule.next(now_millis());
        }
    }
}
