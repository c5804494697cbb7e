//! The merge worker: the newest partial of each input partition, merged; windows closed, versioned, sealed, watched.
//!
//! Invariants: what it publishes is a function of its input log alone. Of each (model, slice, input partition) only
//! the newest partial counts, so a partial sent twice changes nothing. A window is sealed once and never again.
//! A model that reads another's rows counts those that are sealed, and is sealed as far as the other one is.

mod known;
mod rows;
mod sessions;
mod windows;

use crate::{
    Grid, LiveModel, ProcessorError, Publish, TimeRules, Window, arrow_bytes,
    panes::Panes,
    sessions::{fragment_schema, last_event},
    time_rules::ClockRules,
    watching::{AlertUpdate, DetectionHealth, KnownTimes, SavedWatcher, Seen, Watcher},
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{SchemaRef, TimestampMillisecondType},
};
pub(crate) use known::KnownGroups;
pub use rows::sealed_panes;
pub(crate) use rows::{Rows, read as read_rows};
use rows::{group_of, measures_of, sealed_rows};
use serde::{Deserialize, Serialize};
use sessions::{SavedSessions, SessionPanes, Sessions};
use sluice_events::{EventTime, Kpi, KpiKey, OffsetSpan, PaneState, Partial, PartialKind, Severity};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use windows::{Part, Published, SavedWindows, Windows};
use xxhash_rust::xxh3::xxh3_64;

/// Windows without events that are filled with zeros after a gap, at most. A longer gap is a shop that was closed.
const ZERO_WINDOWS_MAX: i64 = 1_440;
/// Texts of models that are remembered as missed, at most.
const MISSED_MAX: usize = 1_000;
/// Between two watermarks that are remembered with their offsets, in milliseconds of event time.
const COURSE_STEP: i64 = 30_000;
/// So many of them: five hours, for the longest time that an alert is over.
const COURSE_MAX: usize = 600;
/// How long, in event time, a quiet partition keeps windows from being sealed: one hour.
const IDLE_HOLD: i64 = 3_600_000;

/// Sealed rows of a model: columns of [`Merger::sealed_schema`].
#[derive(Debug)]
pub struct SealedRows {
    /// Which model.
    pub model: usize,
    /// The rows.
    pub rows: RecordBatch,
}

/// Rows of one model that another one counts, and that a lost checkpoint had counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsRows {
    /// Who needs them.
    pub model: usize,
    /// Whose they are.
    pub upstream: usize,
    /// As [`root_of`].
    pub root: usize,
    /// The time column that says which rows.
    pub column: &'static str,
    /// Milliseconds from which on.
    pub from: i64,
}

/// What a message of the partials topic led to.
#[derive(Debug, Default)]
pub struct MergeOutput {
    /// Panes to publish.
    pub kpis: Vec<Kpi>,
    /// Published panes that are none any more: two sessions that turned out to be one, a group that HAVING leaves out now.
    pub retracted: Vec<KpiKey>,
    /// Rows for the lake, each exactly once.
    pub sealed: Vec<SealedRows>,
    /// Alerts that are new or another now.
    pub alerts: Vec<AlertUpdate>,
    /// Model, watched measure and the largest unusual score of it in a window that became final; 0 when none is unusual.
    pub scores: Vec<(String, String, f64)>,
    /// Models and how many of their partials or rows came after their window was sealed.
    pub after_seal: Vec<(String, usize)>,
    /// Partials of models that are not known here, or with another text.
    pub unknown: Vec<String>,
}

/// The state of a merger, as a checkpoint keeps it.
#[derive(Default, Serialize, Deserialize)]
pub struct MergerState {
    /// First offset of the partials partition not applied yet.
    pub position: i64,
    inputs: Vec<Input>,
    models: BTreeMap<String, (String, SavedModel)>,
    missed: BTreeMap<(String, String), i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Input {
    watermark: Option<i64>,
    is_idle: bool,
    as_of: i64,
    drained: Option<i64>,
    /// Watermarks of the last hours, each with the offset from which on it was reached.
    course: VecDeque<(i64, i64)>,
}

impl Input {
    /// Notes how far it is, now and then.
    fn note(&mut self) {
        let Some(watermark) = self.watermark else { return };
        if self.course.back().is_none_or(|(last, _)| watermark - last >= COURSE_STEP) {
            self.course.push_back((watermark, self.as_of));
            if self.course.len() > COURSE_MAX {
                self.course.pop_front();
            }
        }
    }

    /// An offset before which there is no event as late as `time`: until then not even the watermark's own event was.
    fn first_offset(&self, time: i64, out_of_orderness: i64) -> i64 {
        let before = self.course.iter().rev().find(|(watermark, _)| watermark + out_of_orderness < time);
        before.map_or(0, |(_, as_of)| *as_of)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct SavedModel {
    declared: BTreeSet<i32>,
    windows: SavedWindows,
    sessions: Option<SavedSessions>,
    progress: Progress,
    known: KnownGroups,
    watcher: SavedWatcher,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The first window that every input partition counts whole; none: all of them.
    counts_from: Option<i64>,
    /// Windows that end at or before this are final.
    final_until: Option<i64>,
    /// Windows that end at or before this are sealed.
    sealed_until: Option<i64>,
    /// Sessions that end at or before this were sealed before a checkpoint was lost; what they were made of comes again,
    /// and some of it belongs to longer ones that were not.
    sealed_before: Option<i64>,
}

impl Progress {
    /// Whether a window still takes what comes.
    fn takes(&self, grid: &Grid, start: i64) -> bool {
        self.sealed_until.is_none_or(|sealed| grid.end(start) > sealed)
            && self.counts_from.is_none_or(|from| start >= from)
    }

    /// The windows that a slice is in and that still take what comes.
    fn open_windows(&self, grid: &Grid, slice: i64) -> Vec<i64> {
        grid.windows(slice).into_iter().filter(|start| self.takes(grid, *start)).collect()
    }
}

enum Open {
    Windows(Windows),
    Sessions(Box<Sessions>),
}

struct ModelPanes {
    /// The input partitions that have said that they count it.
    declared: BTreeSet<i32>,
    open: Open,
    progress: Progress,
    known: KnownGroups,
    watcher: Watcher,
}

/// How far a model's windows may be closed.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    /// Windows that end at or before this are final.
    final_until: Option<i64>,
    /// Windows that end at or before this take nothing more.
    sealed_until: Option<i64>,
    /// All inputs are quiet: all windows are final.
    all_idle: bool,
    /// All inputs have ended: windows that end at or before this are sealed.
    drained: Option<i64>,
}

impl Reach {
    fn is_drained(&self, end: i64) -> bool {
        self.drained.is_some_and(|until| end <= until)
    }

    fn is_final(&self, end: i64) -> bool {
        self.all_idle || self.is_drained(end) || self.final_until.is_some_and(|until| end <= until)
    }

    fn is_sealed(&self, end: i64) -> bool {
        self.is_drained(end) || self.sealed_until.is_some_and(|until| end <= until)
    }
}

/// Merges the partials of one partition of the partials topic.
pub struct Merger {
    // Settings.
    rules: ClockRules,
    models: Arc<[LiveModel]>,
    // Saved in a checkpoint.
    position: i64,
    inputs: Vec<Input>,
    panes: Vec<ModelPanes>,
    /// Of models, by name and fingerprint, that were not known when partials of them came: the latest event time missed.
    missed: BTreeMap<(String, String), i64>,
    // Live.
    /// Models that were known and are not any more: what still comes of them is no news.
    retired: BTreeSet<(String, String)>,
    /// What detectors are told beforehand.
    known_times: KnownTimes,
    /// Alerts whose model, or what watched it, is gone: told with the next message.
    unwatched: Vec<AlertUpdate>,
}

fn hash(measures: &rows::Measures) -> u64 {
    xxh3_64(format!("{measures:?}").as_bytes())
}

impl ModelPanes {
    fn new(model: &LiveModel) -> Result<Self, ProcessorError> {
        let open = match &model.window {
            Window::Grid(_) => Open::Windows(Windows::default()),
            Window::Session { gap } => Open::Sessions(Box::new(Sessions::new(model, *gap)?)),
        };
        Ok(Self {
            declared: BTreeSet::new(),
            open,
            progress: Progress::default(),
            known: KnownGroups::default(),
            watcher: Watcher::new(model),
        })
    }

    fn restored(model: &LiveModel, saved: SavedModel) -> Result<Self, ProcessorError> {
        let open = match (&model.window, saved.sessions) {
            (Window::Session { gap }, Some(sessions)) => {
                Open::Sessions(Box::new(Sessions::restored(model, *gap, sessions)?))
            }
            _ => Open::Windows(Windows::restored(model, saved.windows)?),
        };
        let watcher = Watcher::restored(model, saved.watcher);
        Ok(Self { declared: saved.declared, open, progress: saved.progress, known: saved.known, watcher })
    }

    fn save(&self) -> Result<SavedModel, ProcessorError> {
        let (windows, sessions) = match &self.open {
            Open::Windows(windows) => (windows.save()?, None),
            Open::Sessions(sessions) => (SavedWindows::default(), Some(sessions.save()?)),
        };
        let (known, declared) = (self.known.clone(), self.declared.clone());
        Ok(SavedModel { declared, windows, sessions, progress: self.progress, known, watcher: self.watcher.save() })
    }
}

impl Merger {
    /// A merger that has seen nothing.
    ///
    /// # Errors
    /// When Arrow cannot compare a model's group columns.
    pub fn new(rules: &TimeRules, models: Arc<[LiveModel]>) -> Result<Self, ProcessorError> {
        let panes = models.iter().map(ModelPanes::new).collect::<Result<_, _>>()?;
        Ok(Self {
            rules: rules.into(),
            models,
            position: 0,
            inputs: Vec::new(),
            panes,
            missed: BTreeMap::new(),
            retired: BTreeSet::new(),
            known_times: KnownTimes::default(),
            unwatched: Vec::new(),
        })
    }

    /// Columns of the lake table of a model: its panes', `_version`, `_closed_by`.
    pub fn sealed_schema(model: &LiveModel) -> SchemaRef {
        rows::sealed_schema(model)
    }

    /// First offset of the partials partition not applied yet.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The models that it merges.
    pub fn models(&self) -> &Arc<[LiveModel]> {
        &self.models
    }

    /// Up to where each model's windows are sealed, for those that have come so far.
    pub fn sealed_until(&self) -> impl Iterator<Item = (&str, i64)> {
        let models = self.models.iter().zip(&self.panes);
        models.filter_map(|(model, panes)| {
            Some((&*model.name, panes.progress.sealed_until.max(panes.progress.sealed_before)?))
        })
    }

    /// Windows over events that end at or before this (milliseconds) are sealed, those too that had nothing to seal.
    pub fn sealed_reach(&self) -> Option<i64> {
        let reach = self.reach();
        reach.sealed_until.max(reach.drained)
    }

    /// Begins without a checkpoint where windows of these models have been sealed up to the times given: they are not
    /// sealed again. Then show the rows of the tables to [`Merger::recount`].
    pub fn resume_after(&mut self, sealed_until: &BTreeMap<String, i64>) {
        for (model, panes) in self.models.iter().zip(&mut self.panes) {
            let until = sealed_until.get(&model.name).copied();
            match &panes.open {
                Open::Windows(_) => panes.progress.sealed_until = until,
                Open::Sessions(_) => panes.progress.sealed_before = until,
            }
        }
    }

    /// What models that read another one's sealed rows need of that one's table after [`Merger::resume_after`].
    pub fn needs_rows(&self) -> Vec<NeedsRows> {
        let chains = (0..self.models.len()).filter_map(|at| Some((at, self.upstream(at)?)));
        let needs = chains.map(|(model, upstream)| {
            let root = root_of(&self.models, model);
            let sealed_until = self.panes[model].progress.sealed_until;
            NeedsRows {
                model,
                upstream,
                root,
                column: if self.models[model].by_start { "window_start" } else { "window_end" },
                from: sealed_until.map_or(i64::MIN, |until| until.saturating_sub(self.models[model].window_millis())),
            }
        });
        needs.collect()
    }

    /// Counts rows that another model's table has, columns as that one's pane schema: what a lost checkpoint had counted.
    ///
    /// # Errors
    /// When the model fails.
    pub fn recount(&mut self, at: usize, rows: &RecordBatch) -> Result<(), ProcessorError> {
        self.count_panes(at, -1, rows).map(drop)
    }

    /// The first window that a model counts, when it was new in mid-stream.
    pub fn counts_from(&self, model: &str) -> Option<i64> {
        let at = self.models.iter().position(|m| m.name == model)?;
        self.panes[at].progress.counts_from
    }

    /// What is held of each model that is not sealed: windows or sessions, and bytes.
    pub fn held(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.models.iter().zip(&self.panes).map(|(model, panes)| match &panes.open {
            Open::Windows(windows) => (&*model.name, windows.lives.len(), windows.size()),
            Open::Sessions(sessions) => (&*model.name, sessions.len(), sessions.size()),
        })
    }

    /// Tells the detectors what is known beforehand, from the next window on.
    pub fn know(&mut self, times: &KnownTimes) {
        if self.known_times != *times {
            self.known_times = times.clone();
            self.panes.iter_mut().for_each(|panes| panes.watcher.know(times));
        }
    }

    /// How the detectors of each model are doing.
    pub fn detection(&self) -> impl Iterator<Item = DetectionHealth> {
        self.models.iter().zip(&self.panes).flat_map(|(model, panes)| panes.watcher.health(&model.name))
    }

    /// Goes on from a checkpoint. A model whose text has changed begins anew.
    ///
    /// # Errors
    /// When the states in it do not fit the models.
    pub fn restore(&mut self, state: MergerState) -> Result<(), ProcessorError> {
        self.position = state.position;
        self.inputs = state.inputs;
        self.missed = state.missed;
        let mut saved = state.models;
        let mut new = Vec::new();
        for (at, (model, panes)) in self.models.iter().zip(&mut self.panes).enumerate() {
            match saved.remove(&model.name) {
                Some((fingerprint, saved)) if fingerprint == model.fingerprint => {
                    *panes = ModelPanes::restored(model, saved)?;
                    panes.watcher.know(&self.known_times);
                }
                other => {
                    self.unwatched.extend(other.into_iter().flat_map(|(_, saved)| saved.watcher.close()));
                    new.push(at);
                }
            }
        }
        self.unwatched.extend(saved.into_values().flat_map(|(_, saved)| saved.watcher.close()));
        self.begin(&new);
        Ok(())
    }

    /// Goes on with other models: those whose text is the same keep what they hold.
    ///
    /// # Errors
    /// When Arrow cannot compare a model's group columns.
    pub fn change_models(&mut self, models: Arc<[LiveModel]>) -> Result<(), ProcessorError> {
        let mut known: Vec<(&LiveModel, ModelPanes)> =
            self.models.iter().zip(std::mem::take(&mut self.panes)).collect();
        let mut new = Vec::new();
        for (at, model) in models.iter().enumerate() {
            let same = known.iter().position(|(k, _)| k.name == model.name && k.fingerprint == model.fingerprint);
            self.panes.push(match same {
                Some(at) => known.swap_remove(at).1,
                None => {
                    new.push(at);
                    let mut panes = ModelPanes::new(model)?;
                    panes.watcher.know(&self.known_times);
                    panes
                }
            });
        }
        for (model, panes) in known {
            let text = (model.name.clone(), model.fingerprint.clone());
            // Should it come back, what it held is missed.
            let held = match &panes.open {
                Open::Windows(windows) => windows.newest(),
                Open::Sessions(sessions) => sessions.newest(),
            };
            if let Some(held) = held.max(panes.progress.final_until) {
                self.missed.insert(text.clone(), held);
            }
            self.retired.insert(text);
            self.unwatched.extend(panes.watcher.close());
        }
        while self.missed.len() > MISSED_MAX {
            self.missed.pop_first();
        }
        self.models = models;
        self.begin(&new);
        Ok(())
    }

    /// Models that are new here count from the first window after what was missed of them: partials that came when they
    /// were not known, or rows that another model had sealed before.
    fn begin(&mut self, new: &[usize]) {
        for at in new.iter().copied() {
            let model = &self.models[at];
            let missed = self.missed.remove(&(model.name.clone(), model.fingerprint.clone()));
            let upstream = self.upstream(at).map(|up| self.panes[up].progress);
            let sealed_before = upstream.and_then(|progress| progress.sealed_until.or(progress.counts_from));
            let after = missed.max(sealed_before).map(|last| model.first_whole_window(last));
            self.panes[at].progress.counts_from = self.panes[at].progress.counts_from.max(after);
        }
    }

    fn upstream(&self, at: usize) -> Option<usize> {
        upstream_of(&self.models, at)
    }

    /// The state to keep in a checkpoint.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn snapshot(&self) -> Result<MergerState, ProcessorError> {
        let mut models = BTreeMap::new();
        for (model, panes) in self.models.iter().zip(&self.panes) {
            models.insert(model.name.clone(), (model.fingerprint.clone(), panes.save()?));
        }
        Ok(MergerState { position: self.position, inputs: self.inputs.clone(), models, missed: self.missed.clone() })
    }

    /// Applies the message at `offset` of the partials partition.
    ///
    /// # Errors
    /// When a model fails.
    pub fn apply(&mut self, offset: i64, partial: Partial) -> Result<MergeOutput, ProcessorError> {
        let mut output = MergeOutput { alerts: std::mem::take(&mut self.unwatched), ..MergeOutput::default() };
        self.position = offset + 1;
        let inputs = usize::try_from(partial.input_partitions).unwrap_or(0).min(1 << 16);
        if self.inputs.len() < inputs {
            self.inputs.resize_with(inputs, Input::default);
        }
        let Some(input) =
            usize::try_from(partial.input_partition).ok().and_then(|partition| self.inputs.get_mut(partition))
        else {
            return Ok(output);
        };
        // Replayed: everything up to a newer offset is known.
        let is_old = partial.as_of_offset < input.as_of;
        input.as_of = input.as_of.max(partial.as_of_offset);
        match partial.kind {
            PartialKind::Panes => {
                self.take_panes(partial, is_old, &mut output)?;
                return Ok(output);
            }
            PartialKind::Watermark => {
                input.watermark = input.watermark.max(partial.watermark);
                input.note();
                if !is_old {
                    input.is_idle = false;
                }
                self.advance(offset, "watermark", &mut output)?;
            }
            PartialKind::Idle => {
                input.is_idle |= !is_old;
                self.advance(offset, "idle", &mut output)?;
            }
            PartialKind::Drained => {
                input.drained = input.drained.max(partial.watermark);
                self.advance(offset, "drained", &mut output)?;
            }
        }
        Ok(output)
    }

    fn take_panes(&mut self, partial: Partial, is_old: bool, output: &mut MergeOutput) -> Result<(), ProcessorError> {
        let Some(name) = partial.model.clone() else { return Ok(()) };
        let known = |m: &LiveModel| m.name == name && partial.fingerprint.as_deref() == Some(&*m.fingerprint);
        let Some(at) = self.models.iter().position(known) else {
            self.miss(name, &partial, output);
            return Ok(());
        };
        let (model, panes) = (&self.models[at], &mut self.panes[at]);
        panes.declared.insert(partial.input_partition);
        if partial.counts_from > panes.progress.counts_from {
            panes.progress.counts_from = partial.counts_from;
            if let (Open::Windows(windows), Some(from)) = (&mut panes.open, partial.counts_from) {
                windows.forget_before(from);
            }
        }
        // Without panes it only said from when on the model counts.
        let Some(bytes) = partial.panes else { return Ok(()) };
        let progress = panes.progress;
        let too_late = match (&mut panes.open, &model.window, partial.watermark) {
            (Open::Windows(windows), Window::Grid(grid), Some(slice)) => {
                if progress.counts_from.is_some_and(|from| slice < from) {
                    return Ok(());
                }
                let states = arrow_bytes::from_bytes(&bytes, &model.state_schema)?;
                let part = Part {
                    input_partition: partial.input_partition,
                    as_of: partial.as_of_offset,
                    part: usize::try_from(partial.part).unwrap_or(usize::MAX),
                    parts: usize::try_from(partial.parts).unwrap_or(0),
                    states,
                };
                usize::from(!windows.take(slice, part, &progress.open_windows(grid, slice)))
            }
            (Open::Sessions(sessions), _, _) => {
                let fragments = arrow_bytes::from_bytes(&bytes, &fragment_schema(model))?;
                sessions.take(partial.input_partition, partial.as_of_offset, fragments, progress.sealed_until)?
            }
            _ => 0,
        };
        // A replay of what was merged before the window was sealed is expected, and says nothing new.
        if too_late > 0 && !is_old {
            output.after_seal.push((name, too_late));
        }
        Ok(())
    }

    fn miss(&mut self, name: String, partial: &Partial, output: &mut MergeOutput) {
        let model = (name.clone(), partial.fingerprint.clone().unwrap_or_default());
        let is_news = !self.retired.contains(&model);
        let last = partial.watermark.or_else(|| last_event(partial.panes.as_deref()?));
        let missed = self.missed.entry(model).or_insert(i64::MIN);
        *missed = (*missed).max(last.unwrap_or(i64::MIN));
        if is_news {
            output.unknown.push(name);
        }
    }

    /// Closes, corrects and seals what the inputs' watermarks allow now.
    fn advance(&mut self, sequence: i64, cause: &str, output: &mut MergeOutput) -> Result<(), ProcessorError> {
        let reach = self.reach();
        let mut reaches: Vec<Reach> = Vec::with_capacity(self.models.len());
        // Every model comes after the one it reads from, and finds that one's sealed rows in the output.
        for at in 0..self.models.len() {
            let mine = match self.upstream(at) {
                // A partition that does not count it yet has events that are missing.
                None if self.panes[at].declared.len() < self.inputs.len() => Reach::default(),
                None => reach,
                Some(up) => {
                    let mine = self.reach_over(at, up, reaches[up]);
                    self.count_rows(at, up, sequence, output)?;
                    if mine.all_idle {
                        self.open_for_final_rows(at, up, mine)?;
                    }
                    mine
                }
            };
            reaches.push(mine);
            match &self.panes[at].open {
                Open::Windows(_) => self.close_windows(at, mine, sequence, cause, output)?,
                Open::Sessions(_) => self.close_sessions(at, mine, sequence, cause, output)?,
            }
        }
        Ok(())
    }

    /// On a quiet stream: opens the windows of the rows that are final and not sealed, so that they are closed with them.
    fn open_for_final_rows(&mut self, at: usize, upstream: usize, reach: Reach) -> Result<(), ProcessorError> {
        let rows = self.final_rows(upstream, reach)?;
        let model = &self.models[at];
        let progress = self.panes[at].progress;
        let (Window::Grid(grid), Open::Windows(windows)) = (&model.window, &mut self.panes[at].open) else {
            return Ok(());
        };
        for rows in rows {
            for (slice, _) in model.evaluate_slices(&rows).map_err(|e| ProcessorError::of(model, e))? {
                windows.touch(&progress.open_windows(grid, slice));
            }
        }
        Ok(())
    }

    /// How far windows over events may be closed.
    fn reach(&self) -> Reach {
        let active = self.inputs.iter().filter(|i| !i.is_idle);
        let watermark = match active.clone().next() {
            Some(_) => active.map(|i| i.watermark).min().flatten(),
            None => self.inputs.iter().filter_map(|i| i.watermark).min(),
        };
        // A quiet partition does not hold up numbers, but it holds up their end for a while: what it brings when it
        // comes back is not late by its own watermark, and must still find its window.
        let slowest = self.inputs.iter().filter_map(|i| i.watermark).min();
        let sealing = watermark.zip(slowest).map(|(w, slowest)| w.min(slowest.max(w.saturating_sub(IDLE_HOLD))));
        Reach {
            final_until: watermark,
            sealed_until: sealing.map(|watermark| self.rules.sealed_until(watermark)),
            all_idle: self.inputs.iter().all(|i| i.is_idle),
            drained: self.inputs.iter().map(|i| i.drained).min().flatten(),
        }
    }

    /// How far windows over the rows of another model may be closed, when that one's reach is `over`.
    fn reach_over(&self, at: usize, upstream: usize, over: Reach) -> Reach {
        if !self.models[at].by_start {
            // A row that ends in such a window is sealed, or final, when the window ends there.
            return over;
        }
        // No row that is open, or still to come, may begin before.
        let (back, first_open) = match (&self.models[upstream].window, &self.panes[upstream].open) {
            (Window::Grid(grid), Open::Windows(windows)) => (grid.size(), windows.lives.keys().next().copied()),
            (_, Open::Sessions(sessions)) => (0, sessions.first_start()),
            _ => (0, None),
        };
        let held =
            |until: Option<i64>| until.map(|until| until.saturating_sub(back).min(first_open.unwrap_or(i64::MAX)));
        Reach { final_until: held(over.final_until), sealed_until: held(over.sealed_until), ..over }
    }

    /// Counts the rows of another model that have been sealed just now.
    fn count_rows(
        &mut self,
        at: usize,
        upstream: usize,
        sequence: i64,
        output: &mut MergeOutput,
    ) -> Result<(), ProcessorError> {
        let columns: Vec<usize> = (0..self.models[upstream].pane_schema().fields().len()).collect();
        let mut too_late = 0;
        for sealed in output.sealed.iter().filter(|sealed| sealed.model == upstream) {
            too_late += self.count_panes(at, sequence, &sealed.rows.project(&columns)?)?;
        }
        if too_late > 0 {
            output.after_seal.push((self.models[at].name.clone(), too_late));
        }
        Ok(())
    }

    /// Counts rows, columns as the pane schema of the model they are of. Gives the number of those whose windows are sealed.
    fn count_panes(&mut self, at: usize, sequence: i64, rows: &RecordBatch) -> Result<usize, ProcessorError> {
        let model = &self.models[at];
        let progress = self.panes[at].progress;
        let (Window::Grid(grid), Open::Windows(windows)) = (&model.window, &mut self.panes[at].open) else {
            return Ok(0);
        };
        let of_model = |e| ProcessorError::of(model, e);
        let mut too_late = 0;
        for (slice, rows) in model.evaluate_slices(rows).map_err(of_model)? {
            if progress.counts_from.is_some_and(|from| slice < from) {
                continue;
            }
            let open = progress.open_windows(grid, slice);
            if open.is_empty() {
                too_late += rows.rows;
                continue;
            }
            let mut panes = Panes::new(model).map_err(of_model)?;
            panes.update(&rows, usize::MAX).map_err(of_model)?;
            windows.add(model, slice, sequence, panes).map_err(of_model)?;
            windows.touch(&open);
        }
        Ok(too_late)
    }

    fn close_windows(
        &mut self,
        at: usize,
        reach: Reach,
        sequence: i64,
        cause: &str,
        output: &mut MergeOutput,
    ) -> Result<(), ProcessorError> {
        let models = self.models.clone();
        let Window::Grid(grid) = &models[at].window else { return Ok(()) };
        if let Some(until) = reach.final_until {
            self.fill_gaps(at, grid, until);
        }
        let Open::Windows(windows) = &self.panes[at].open else { return Ok(()) };
        let starts: Vec<i64> = windows
            .lives
            .keys()
            .copied()
            .take_while(|start| {
                let end = grid.end(*start);
                // Later windows end later.
                reach.is_final(end) || reach.is_sealed(end)
            })
            .collect();
        for start in starts {
            self.close(at, grid, start, reach, (sequence, cause), output)?;
        }
        Ok(())
    }

    /// Makes windows for the silent time between the last final window and the watermark.
    fn fill_gaps(&mut self, at: usize, grid: &Grid, watermark: i64) {
        let panes = &mut self.panes[at];
        let Open::Windows(windows) = &mut panes.open else { return };
        // The first window that is not over.
        let reached = grid.windows(watermark).last().copied().unwrap_or_else(|| grid.last_window(watermark));
        let Some(from) = panes.progress.final_until.replace(panes.progress.final_until.unwrap_or(reached).max(reached))
        else {
            return;
        };
        if panes.known.is_empty() || (reached - from) / grid.slide() > ZERO_WINDOWS_MAX {
            return;
        }
        let mut start = from;
        while start < reached {
            if panes.progress.takes(grid, start) {
                windows.lives.entry(start).or_default();
            }
            start = grid.next(start);
        }
    }

    fn close(
        &mut self,
        at: usize,
        grid: &Grid,
        start: i64,
        reach: Reach,
        (sequence, cause): (i64, &str),
        output: &mut MergeOutput,
    ) -> Result<(), ProcessorError> {
        let models = self.models.clone();
        let model = &models[at];
        let end = grid.end(start);
        let is_sealed = reach.is_sealed(end);
        let completeness = completeness(&self.inputs, end);
        let Open::Windows(windows) = &mut self.panes[at].open else { return Ok(()) };
        let Some(life) = windows.lives.get_mut(&start) else { return Ok(()) };
        let first_time = life.closed_by.is_none();
        let closed_by = life.closed_by.get_or_insert_with(|| cause.to_owned()).clone();
        // Rows of another model are counted when they are sealed; until this window is, what is final stands in for
        // what will be, once when it closes and again when the stream falls quiet.
        let is_chain = model.upstream.is_some();
        let is_news = first_time || is_sealed || (life.is_dirty && (!is_chain || reach.all_idle));
        if !is_news {
            return Ok(());
        }
        let known = life.rows.take().filter(|_| !life.is_dirty);
        life.is_dirty = false;
        let more = match is_chain && !is_sealed {
            true => self.final_rows_in(at, grid, start, reach)?,
            false => None,
        };
        let panes = &mut self.panes[at];
        let Open::Windows(windows) = &mut panes.open else { return Ok(()) };
        let rows = match known {
            Some(rows) => rows,
            None => windows.merged(model, grid, start, more).map_err(|e| ProcessorError::of(model, e))?,
        };
        let mut merged = rows::read(model, &rows)?;
        panes.known.fill(model, &mut merged, start, grid.slide());
        let Some(life) = windows.lives.get_mut(&start) else { return Ok(()) };
        // Those of a chain hold what is final elsewhere, and may be another when it is sealed.
        life.rows = (!is_chain).then(|| rows.clone());
        let pane = PaneAt { model, start, end, sequence, completeness };
        let mut gone: BTreeSet<String> = life.published.keys().cloned().collect();
        for (group, measures) in merged.values() {
            let id = pane.id(group);
            gone.remove(&id);
            let (said, is_new) = Published::next(life.published.get(&id), hash(measures));
            life.published.insert(id.clone(), said);
            if (is_new || is_sealed) && model.header.publish == Publish::Store {
                let state = state_of(is_sealed, said.version);
                output.kpis.push(Kpi {
                    version: said.version,
                    closed_by: Some(closed_by.clone()),
                    ..pane.kpi(id, group.clone(), measures.clone(), state)
                });
            }
        }
        // A correction may take a pane past HAVING, and then there is none.
        for id in gone {
            life.published.remove(&id);
            output.retracted.push(pane.key(id));
        }
        let versions = (0..rows.num_rows())
            .map(|row| Ok(life.published.get(&pane.id(&group_of(model, &rows, row)?)).map_or(1, |p| p.version)))
            .collect::<Result<_, ProcessorError>>()?;
        if is_sealed {
            if rows.num_rows() > 0 {
                output.sealed.push(SealedRows { model: at, rows: sealed_rows(model, &rows, versions, &closed_by)? });
            }
            windows.seal(grid, start);
            panes.progress.sealed_until = panes.progress.sealed_until.max(Some(end));
        }
        // A window cut off by the end of the input is no evidence of anything.
        if cause != "drained" {
            match first_time {
                true => self.show_detectors(at, (start, end), &merged, output),
                false => output.alerts.extend(self.panes[at].watcher.correct(start, end, &merged)),
            }
        }
        if is_sealed {
            self.panes[at].watcher.sealed(start);
        }
        Ok(())
    }

    fn show_detectors(&mut self, at: usize, (start, end): (i64, i64), rows: &Rows, output: &mut MergeOutput) {
        let (model, inputs) = (&self.models[at], &self.inputs);
        let Window::Grid(grid) = &model.window else { return };
        let slide = grid.slide();
        let out_of_orderness = self.rules.out_of_orderness;
        let origin = |since: i64| -> Vec<OffsetSpan> {
            let spans = inputs.iter().enumerate().map(|(partition, input)| OffsetSpan {
                partition: partition as i32,
                from: input.first_offset(since, out_of_orderness),
                upto: input.as_of,
            });
            spans.collect()
        };
        let verdict = self.panes[at].watcher.judge(&model.name, &Seen { start, end, slide, rows, origin: &origin });
        output.alerts.extend(verdict.alerts);
        output.scores.extend(verdict.scores.into_iter().map(|(measure, score)| (model.name.clone(), measure, score)));
    }

    /// The panes of another model that are final, not sealed, and in this window: counted as if they were sealed.
    fn final_rows_in(&self, at: usize, grid: &Grid, start: i64, reach: Reach) -> Result<Option<Panes>, ProcessorError> {
        let Some(upstream) = self.upstream(at) else { return Ok(None) };
        let model = &self.models[at];
        let of_model = |e| ProcessorError::of(model, e);
        let mut panes = None;
        for rows in self.final_rows(upstream, reach)? {
            for (slice, rows) in model.evaluate_slices(&rows).map_err(of_model)? {
                if start <= slice && slice < grid.end(start) {
                    let mut known = match panes.take() {
                        Some(panes) => panes,
                        None => Panes::new(model).map_err(of_model)?,
                    };
                    known.update(&rows, usize::MAX).map_err(of_model)?;
                    panes = Some(known);
                }
            }
        }
        Ok(panes)
    }

    /// All rows of a model that are final and not sealed.
    fn final_rows(&self, at: usize, reach: Reach) -> Result<Vec<RecordBatch>, ProcessorError> {
        let (model, panes) = (&self.models[at], &self.panes[at]);
        match (&panes.open, &model.window) {
            (Open::Sessions(sessions), _) => {
                let until = if reach.all_idle { None } else { Some(reach.final_until.unwrap_or(i64::MIN)) };
                Ok(vec![sessions.all_final(model, until, panes.progress.counts_from)?])
            }
            (Open::Windows(windows), Window::Grid(grid)) => {
                let starts = windows.lives.keys().filter(|start| reach.is_final(grid.end(**start)));
                let rows = starts.map(|start| {
                    let more = self.final_rows_in(at, grid, *start, reach)?;
                    windows.merged(model, grid, *start, more).map_err(|e| ProcessorError::of(model, e))
                });
                rows.collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    fn close_sessions(
        &mut self,
        at: usize,
        reach: Reach,
        sequence: i64,
        cause: &str,
        output: &mut MergeOutput,
    ) -> Result<(), ProcessorError> {
        let model = &self.models[at];
        let panes = &mut self.panes[at];
        let counts_from = panes.progress.counts_from;
        let Open::Sessions(sessions) = &mut panes.open else { return Ok(()) };
        let sealed_until = reach.sealed_until.max(reach.drained);
        if sealed_until > panes.progress.sealed_until {
            panes.progress.sealed_until = sealed_until;
            let sealed = sessions.seal(model, sealed_until, panes.progress.sealed_before, counts_from)?;
            let versions = tell(model, sessions, &sealed, true, (sequence, cause), &self.inputs, output)?;
            if sealed.rows.num_rows() > 0 {
                let rows = sealed_rows(model, &sealed.rows, versions, cause)?;
                output.sealed.push(SealedRows { model: at, rows });
            }
        }
        if model.header.publish == Publish::Store && (reach.all_idle || reach.final_until.is_some()) {
            let final_until = if reach.all_idle { None } else { reach.final_until };
            let closed = sessions.newly_final(model, final_until, counts_from)?;
            tell(model, sessions, &closed, false, (sequence, cause), &self.inputs, output)?;
        }
        Ok(())
    }

    /// The open windows as they stand now: numbers that still grow. Call it as often as readers like.
    /// A session has no provisional pane: where it ends is what is not known yet.
    ///
    /// # Errors
    /// When a model fails.
    pub fn provisional(&mut self) -> Result<Vec<Kpi>, ProcessorError> {
        let mut kpis = Vec::new();
        for (model, panes) in self.models.iter().zip(&mut self.panes) {
            let (Open::Windows(windows), Window::Grid(grid)) = (&mut panes.open, &model.window) else { continue };
            if model.header.publish == Publish::Lake {
                continue;
            }
            let dirty = windows.lives.iter_mut().filter(|(_, life)| life.is_dirty && life.closed_by.is_none());
            let dirty: Vec<i64> = dirty
                .map(|(start, life)| {
                    life.is_dirty = false;
                    *start
                })
                .collect();
            for start in dirty {
                let rows = windows.merged(model, grid, start, None).map_err(|e| ProcessorError::of(model, e))?;
                let end = grid.end(start);
                let completeness = completeness(&self.inputs, end);
                let pane = PaneAt { model, start, end, sequence: self.position, completeness };
                for (group, measures) in rows::read(model, &rows)?.into_values() {
                    kpis.push(pane.kpi(pane.id(&group), group, measures, PaneState::Provisional));
                }
            }
        }
        Ok(kpis)
    }

    /// Alerts that fire now: how many of each watched model, by severity.
    pub fn firing(&self) -> BTreeMap<(&str, Severity), usize> {
        let mut firing = BTreeMap::new();
        for (model, panes) in self.models.iter().zip(&self.panes).filter(|(_, panes)| !panes.watcher.is_empty()) {
            for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
                let count = panes.watcher.firing().filter(|s| *s == severity).count();
                firing.insert((&*model.name, severity), count);
            }
        }
        firing
    }
}

/// A window or session of a model, and what is known of it as a whole.
struct PaneAt<'a> {
    model: &'a LiveModel,
    start: i64,
    end: i64,
    sequence: i64,
    completeness: f64,
}

impl PaneAt<'_> {
    fn id(&self, group: &rows::Group) -> String {
        Kpi::id_of(&self.model.name, EventTime::new(self.start), EventTime::new(self.end), group)
    }

    fn key(&self, id: String) -> KpiKey {
        KpiKey { id, model: self.model.name.clone(), window_start: EventTime::new(self.start) }
    }

    /// A pane of it that nothing has closed yet.
    fn kpi(&self, id: String, group: rows::Group, measures: rows::Measures, state: PaneState) -> Kpi {
        Kpi {
            id,
            model: self.model.name.clone(),
            window_start: EventTime::new(self.start),
            window_end: EventTime::new(self.end),
            group,
            measures,
            state,
            version: 0,
            sequence: self.sequence,
            closed_by: None,
            completeness: self.completeness,
        }
    }
}

/// Publishes sessions that are final or sealed, and takes back what turned out to be none. Gives the rows' versions.
fn tell(
    model: &LiveModel,
    sessions: &mut Sessions,
    panes: &SessionPanes,
    are_sealed: bool,
    (sequence, cause): (i64, &str),
    inputs: &[Input],
    output: &mut MergeOutput,
) -> Result<Vec<i32>, ProcessorError> {
    if model.header.publish == Publish::Lake {
        return Ok(vec![1; panes.rows.num_rows()]);
    }
    let bound =
        |column: usize, row: usize| panes.rows.column(column).as_primitive::<TimestampMillisecondType>().value(row);
    let mut versions = Vec::with_capacity(panes.rows.num_rows());
    for row in 0..panes.rows.num_rows() {
        let (start, end) = (bound(0, row), bound(1, row));
        let (group, measures) = (group_of(model, &panes.rows, row)?, measures_of(model, &panes.rows, row)?);
        let pane = PaneAt { model, start, end, sequence, completeness: completeness(inputs, end) };
        let id = pane.id(&group);
        let (said, is_new) = sessions.say(panes, row, &id, hash(&measures));
        versions.push(said.version);
        if is_new || are_sealed {
            let state = state_of(are_sealed, said.version);
            output.kpis.push(Kpi {
                version: said.version,
                closed_by: Some(cause.to_owned()),
                ..pane.kpi(id, group, measures, state)
            });
        }
    }
    let key = |(id, start)| KpiKey { id, model: model.name.clone(), window_start: EventTime::new(start) };
    output.retracted.extend(sessions.retract(panes, are_sealed).into_iter().map(key));
    Ok(versions)
}

fn state_of(is_sealed: bool, version: i32) -> PaneState {
    match (is_sealed, version) {
        (true, _) => PaneState::Sealed,
        (false, 1) => PaneState::Final,
        (false, _) => PaneState::Corrected,
    }
}

fn upstream_of(models: &[LiveModel], at: usize) -> Option<usize> {
    let name = models[at].upstream.as_ref()?;
    models.iter().position(|model| model.name == *name)
}

/// The model over events from which a model's numbers come in the end: itself, or the end of its chain. Where the partials
/// of that one go, all of the chain is merged, and nowhere else.
pub fn root_of(models: &[LiveModel], mut at: usize) -> usize {
    while let Some(upstream) = upstream_of(models, at) {
        at = upstream;
    }
    at
}

/// Share of the input partitions whose watermark passed `end`.
fn completeness(inputs: &[Input], end: i64) -> f64 {
    let past = |i: &&Input| i.is_idle || i.watermark.is_some_and(|w| w >= end) || i.drained.is_some_and(|d| d >= end);
    inputs.iter().filter(past).count() as f64 / inputs.len().max(1) as f64
}
