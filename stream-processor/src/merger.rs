//! The merge worker: the newest partial of each input partition, merged; windows closed, versioned, sealed, watched.
//!
//! Invariants: what it publishes is a function of its input log alone. Of each (model, window, input partition) only
//! the newest partial counts, so a partial sent twice changes nothing. A window is sealed once and never again.

use crate::{
    DetectSpec, LiveModel, ProcessorError, Reading, TimeRules, ZScore, ZScoreConfig, arrow_bytes, panes::Panes,
    time_rules::ClockRules,
};
use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit},
    util::display::array_value_to_string,
};
use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};
use sluice_events::{Alert, AlertState, EventTime, Kpi, Measure, OffsetSpan, PaneState, Partial, PartialKind};
use std::{collections::BTreeMap, sync::Arc};
use xxhash_rust::xxh3::xxh3_64;

/// Windows without events that are filled with zeros after a gap, at most. A longer gap is a shop that was closed.
const ZERO_WINDOWS_MAX: i64 = 1_440;
/// Series of a model that get zero panes, at most.
const KNOWN_SERIES_MAX: usize = 10_000;
/// A series without events for this many windows is forgotten.
const KNOWN_WINDOWS: i64 = 1_440;
/// How long, in event time, a quiet partition keeps windows from being sealed: one hour.
const IDLE_HOLD: i64 = 3_600_000;
/// Usual windows in a row that end an alert.
const RESOLVED_AFTER: u32 = 2;

/// Sealed rows of a model: `window_start`, `window_end`, the model's columns, `_version`, `_closed_by`.
#[derive(Debug)]
pub struct SealedRows {
    /// Which model.
    pub model: usize,
    /// The rows.
    pub rows: RecordBatch,
}

/// What a message of the partials topic led to.
#[derive(Debug, Default)]
pub struct MergeOutput {
    /// Panes to publish.
    pub kpis: Vec<Kpi>,
    /// Rows for the lake, each exactly once.
    pub sealed: Vec<SealedRows>,
    /// Alerts raised or resolved.
    pub alerts: Vec<Alert>,
    /// Largest absolute score of each watched measure in a window that became final.
    pub scores: Vec<(String, String, f64)>,
    /// Partials of models that came after their window was sealed.
    pub after_seal: Vec<String>,
}

/// The state of a merger, as a checkpoint keeps it.
#[derive(Default, Serialize, Deserialize)]
pub struct MergerState {
    /// First offset of the partials partition not applied yet.
    pub position: i64,
    inputs: Vec<Input>,
    models: BTreeMap<String, (String, SavedModel)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Input {
    watermark: Option<i64>,
    is_idle: bool,
    as_of: i64,
    drained: Option<i64>,
}

#[derive(Default, Serialize, Deserialize)]
struct SavedModel {
    windows: BTreeMap<i64, SavedWindow>,
    progress: Progress,
    known: BTreeMap<String, KnownSeries>,
    series: BTreeMap<String, Series>,
}

#[derive(Default, Serialize, Deserialize)]
struct SavedWindow {
    partials: BTreeMap<i32, (i64, Vec<u8>)>,
    closed_by: Option<String>,
    published: BTreeMap<String, Published>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The first window that every input partition counts whole; none: all of them.
    counts_from: Option<i64>,
    /// Windows that end at or before this are final.
    final_until: Option<i64>,
    /// Windows that end at or before this are sealed.
    sealed_until: Option<i64>,
}

/// A group that has been seen, and gets zeros when it is silent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownSeries {
    group: BTreeMap<String, Option<String>>,
    last_window: i64,
}

/// What was said last about a pane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Published {
    version: i32,
    /// Hash of the measures: a correction that changes nothing is none.
    measures: u64,
}

/// A watched series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    detector: ZScore,
    firing: Option<Firing>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Firing {
    first_window: i64,
    usual_windows: u32,
}

#[derive(Default)]
struct MergedWindow {
    partials: BTreeMap<i32, (i64, RecordBatch)>,
    is_dirty: bool,
    closed_by: Option<String>,
    published: BTreeMap<String, Published>,
}

#[derive(Default)]
struct ModelPanes {
    windows: BTreeMap<i64, MergedWindow>,
    progress: Progress,
    known: BTreeMap<String, KnownSeries>,
    series: BTreeMap<String, Series>,
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
}

impl Merger {
    /// A merger that has seen nothing.
    pub fn new(rules: &TimeRules, models: Arc<[LiveModel]>) -> Self {
        let panes = models.iter().map(|_| ModelPanes::default()).collect();
        Self { rules: rules.into(), models, position: 0, inputs: Vec::new(), panes }
    }

    /// Columns of the lake table of a model.
    pub fn sealed_schema(model: &LiveModel) -> SchemaRef {
        let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
        let mut fields = vec![time("window_start"), time("window_end")];
        fields.extend(model.output_schema().fields().iter().map(|f| f.as_ref().clone()));
        fields.push(Field::new("_version", DataType::Int32, false));
        fields.push(Field::new("_closed_by", DataType::Utf8, false));
        Arc::new(Schema::new(fields))
    }

    /// First offset of the partials partition not applied yet.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The first window that a model counts, when it was new in mid-stream.
    pub fn counts_from(&self, model: &str) -> Option<i64> {
        let at = self.models.iter().position(|m| m.name == model)?;
        self.panes[at].progress.counts_from
    }

    /// Windows held, by model.
    pub fn open_windows(&self) -> impl Iterator<Item = (&str, usize)> {
        self.models.iter().zip(&self.panes).map(|(model, panes)| (&*model.name, panes.windows.len()))
    }

    /// Goes on from a checkpoint. A model whose text has changed begins anew.
    ///
    /// # Errors
    /// When the states in it do not fit the models.
    pub fn restore(&mut self, state: MergerState) -> Result<(), ProcessorError> {
        self.position = state.position;
        self.inputs = state.inputs;
        let mut saved = state.models;
        for (model, panes) in self.models.iter().zip(&mut self.panes) {
            let Some((fingerprint, saved)) = saved.remove(&model.name) else { continue };
            if fingerprint != model.fingerprint {
                continue;
            }
            panes.progress = saved.progress;
            panes.known = saved.known;
            panes.series = saved.series;
            for (start, window) in saved.windows {
                let mut partials = BTreeMap::new();
                for (partition, (as_of, bytes)) in window.partials {
                    partials.insert(partition, (as_of, arrow_bytes::from_bytes(&bytes, &model.state_schema)?));
                }
                let restored =
                    MergedWindow { partials, is_dirty: true, closed_by: window.closed_by, published: window.published };
                panes.windows.insert(start, restored);
            }
        }
        Ok(())
    }

    /// The state to keep in a checkpoint.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn snapshot(&self) -> Result<MergerState, ProcessorError> {
        let mut models = BTreeMap::new();
        for (model, panes) in self.models.iter().zip(&self.panes) {
            let mut windows = BTreeMap::new();
            for (start, window) in &panes.windows {
                let mut partials = BTreeMap::new();
                for (partition, (as_of, states)) in &window.partials {
                    partials.insert(*partition, (*as_of, arrow_bytes::to_bytes(states)?));
                }
                let (closed_by, published) = (window.closed_by.clone(), window.published.clone());
                windows.insert(*start, SavedWindow { partials, closed_by, published });
            }
            let (known, series) = (panes.known.clone(), panes.series.clone());
            let saved = SavedModel { windows, progress: panes.progress, known, series };
            models.insert(model.name.clone(), (model.fingerprint.clone(), saved));
        }
        Ok(MergerState { position: self.position, inputs: self.inputs.clone(), models })
    }

    /// Applies the message at `offset` of the partials partition.
    ///
    /// # Errors
    /// When a model fails.
    pub fn apply(&mut self, offset: i64, partial: Partial) -> Result<MergeOutput, ProcessorError> {
        let mut output = MergeOutput::default();
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
        let (Some(name), Some(start)) = (partial.model, partial.watermark) else { return Ok(()) };
        let known = |m: &LiveModel| m.name == name && partial.fingerprint.as_deref() == Some(&*m.fingerprint);
        let Some(at) = self.models.iter().position(known) else { return Ok(()) };
        let (model, panes) = (&self.models[at], &mut self.panes[at]);
        if partial.counts_from > panes.progress.counts_from {
            panes.progress.counts_from = partial.counts_from;
            panes.windows.retain(|start, _| Some(*start) >= partial.counts_from);
        }
        // Without panes it only said from when on the model counts.
        let Some(bytes) = partial.panes else { return Ok(()) };
        if panes.progress.counts_from.is_some_and(|from| start < from) {
            return Ok(());
        }
        if panes.progress.sealed_until.is_some_and(|sealed| start + model.window_millis <= sealed) {
            // A replay of what was merged before the window was sealed is expected, and says nothing new.
            if !is_old {
                output.after_seal.push(name);
            }
            return Ok(());
        }
        let window = panes.windows.entry(start).or_default();
        let newest = window.partials.get(&partial.input_partition).map(|(as_of, _)| *as_of);
        if newest.is_none_or(|newest| newest < partial.as_of_offset) {
            let states = arrow_bytes::from_bytes(&bytes, &model.state_schema)?;
            window.partials.insert(partial.input_partition, (partial.as_of_offset, states));
            window.is_dirty = true;
        }
        Ok(())
    }

    /// Closes, corrects and seals what the inputs' watermarks allow now.
    fn advance(&mut self, sequence: i64, cause: &str, output: &mut MergeOutput) -> Result<(), ProcessorError> {
        let all_drained = self.inputs.iter().map(|i| i.drained).min().flatten();
        let active = self.inputs.iter().filter(|i| !i.is_idle);
        let watermark = match active.clone().next() {
            Some(_) => active.map(|i| i.watermark).min().flatten(),
            None => self.inputs.iter().filter_map(|i| i.watermark).min(),
        };
        let all_idle = self.inputs.iter().all(|i| i.is_idle);
        // A quiet partition does not hold up numbers, but it holds up their end for a while: what it brings when it
        // comes back is not late by its own watermark, and must still find its window.
        let slowest = self.inputs.iter().filter_map(|i| i.watermark).min();
        let sealing = watermark.zip(slowest).map(|(w, slowest)| w.min(slowest.max(w.saturating_sub(IDLE_HOLD))));
        for at in 0..self.models.len() {
            let size = self.models[at].window_millis;
            if let Some(watermark) = watermark {
                self.fill_gaps(at, watermark);
            }
            let starts: Vec<i64> = self.panes[at].windows.keys().copied().collect();
            for start in starts {
                let end = start + size;
                let is_drained = all_drained.is_some_and(|until| end <= until);
                let is_final = is_drained || all_idle || watermark.is_some_and(|w| end <= w);
                let is_sealed = is_drained || sealing.is_some_and(|w| self.rules.sealed_at(end) <= w);
                if !is_final && !is_sealed {
                    // Later windows end later.
                    break;
                }
                self.close(at, start, sequence, cause, is_sealed, output)?;
            }
        }
        Ok(())
    }

    /// Makes windows for the silent time between the last final window and the watermark.
    fn fill_gaps(&mut self, at: usize, watermark: i64) {
        let size = self.models[at].window_millis;
        let panes = &mut self.panes[at];
        let reached = watermark.div_euclid(size) * size;
        let Some(from) = panes.progress.final_until.replace(panes.progress.final_until.unwrap_or(reached).max(reached))
        else {
            return;
        };
        if panes.known.is_empty() || (reached - from) / size > ZERO_WINDOWS_MAX {
            return;
        }
        let (sealed, counts_from) = (panes.progress.sealed_until, panes.progress.counts_from);
        for start in (from.max(counts_from.unwrap_or(from))..reached).step_by(size as usize) {
            if sealed.is_none_or(|sealed| start + size > sealed) {
                panes.windows.entry(start).or_default();
            }
        }
    }

    fn close(
        &mut self,
        at: usize,
        start: i64,
        sequence: i64,
        cause: &str,
        is_sealed: bool,
        output: &mut MergeOutput,
    ) -> Result<(), ProcessorError> {
        let model = &self.models[at];
        let error = |source| ProcessorError::Model { model: model.name.clone(), source };
        let completeness = completeness(&self.inputs, start + model.window_millis);
        let panes = &mut self.panes[at];
        let Some(window) = panes.windows.get_mut(&start) else { return Ok(()) };
        let first_time = window.closed_by.is_none();
        let closed_by = window.closed_by.get_or_insert_with(|| cause.to_owned()).clone();
        if !(first_time || window.is_dirty || is_sealed) {
            return Ok(());
        }
        window.is_dirty = false;
        let rows = merge(model, &window.partials, start).map_err(error)?;
        let mut merged = read_rows(model, &rows)?;
        remember(&mut panes.known, &merged, start, model.window_millis);
        for (key, series) in &panes.known {
            merged.entry(key.clone()).or_insert_with(|| (series.group.clone(), zeros(model)));
        }
        let end = EventTime::new(start + model.window_millis);
        for (key, (group, measures)) in &merged {
            let hash = xxh3_64(format!("{measures:?}").as_bytes());
            let before = window.published.get(key);
            let version = match before {
                None => 1,
                Some(p) if p.measures == hash => p.version,
                Some(p) => p.version + 1,
            };
            let changed = before.is_none_or(|p| p.measures != hash);
            window.published.insert(key.clone(), Published { version, measures: hash });
            if changed || is_sealed {
                output.kpis.push(Kpi {
                    id: Kpi::id_of(&model.name, EventTime::new(start), end, group),
                    model: model.name.clone(),
                    window_start: EventTime::new(start),
                    window_end: end,
                    group: group.clone(),
                    measures: measures.clone(),
                    state: match (is_sealed, version) {
                        (true, _) => PaneState::Sealed,
                        (false, 1) => PaneState::Final,
                        (false, _) => PaneState::Corrected,
                    },
                    version,
                    sequence,
                    closed_by: Some(closed_by.clone()),
                    completeness,
                });
            }
        }
        // A window cut off by the end of the input is no evidence of anything.
        if first_time && cause != "drained" {
            let origin: Vec<OffsetSpan> = self
                .inputs
                .iter()
                .enumerate()
                .map(|(partition, input)| OffsetSpan { partition: partition as i32, upto: input.as_of })
                .collect();
            let (known, series) = (&panes.known, &mut panes.series);
            series.retain(|key, s| {
                s.firing.is_some() || key.split_once('#').is_some_and(|(_, group)| known.contains_key(group))
            });
            for spec in &model.header.detect {
                watch(model, spec, start, &merged, &mut panes.series, &origin, output);
            }
        }
        if is_sealed {
            let versions = merged_versions(model, &rows, &window.published)?;
            if rows.num_rows() > 0 {
                output
                    .sealed
                    .push(SealedRows { model: at, rows: sealed_rows(model, &rows, start, versions, &closed_by)? });
            }
            panes.windows.remove(&start);
            panes.progress.sealed_until = panes.progress.sealed_until.max(Some(end.get()));
        }
        Ok(())
    }

    /// The open windows as they stand now: numbers that still grow. Call it as often as readers like.
    ///
    /// # Errors
    /// When a model fails.
    pub fn provisional(&mut self) -> Result<Vec<Kpi>, ProcessorError> {
        let mut kpis = Vec::new();
        for (model, panes) in self.models.iter().zip(&mut self.panes) {
            for (start, window) in panes.windows.iter_mut().filter(|(_, w)| w.is_dirty && w.closed_by.is_none()) {
                window.is_dirty = false;
                let rows = merge(model, &window.partials, *start)
                    .map_err(|source| ProcessorError::Model { model: model.name.clone(), source })?;
                let end = EventTime::new(start + model.window_millis);
                for (group, measures) in read_rows(model, &rows)?.into_values() {
                    kpis.push(Kpi {
                        id: Kpi::id_of(&model.name, EventTime::new(*start), end, &group),
                        model: model.name.clone(),
                        window_start: EventTime::new(*start),
                        window_end: end,
                        group,
                        measures,
                        state: PaneState::Provisional,
                        version: 0,
                        sequence: self.position,
                        closed_by: None,
                        completeness: completeness(&self.inputs, end.get()),
                    });
                }
            }
        }
        Ok(kpis)
    }

    /// Alerts that fire now: model, severity and how many.
    pub fn firing(&self) -> BTreeMap<(String, String), usize> {
        let mut firing = BTreeMap::new();
        for (model, panes) in self.models.iter().zip(&self.panes) {
            for spec in &model.header.detect {
                let severity = format!("{:?}", spec.severity).to_lowercase();
                let prefix = series_prefix(spec);
                let count =
                    panes.series.iter().filter(|(key, s)| key.starts_with(&prefix) && s.firing.is_some()).count();
                *firing.entry((model.name.clone(), severity)).or_insert(0) += count;
            }
        }
        firing
    }
}

type Rows = BTreeMap<String, (BTreeMap<String, Option<String>>, BTreeMap<String, Measure>)>;

/// Share of the input partitions whose watermark passed `end`.
fn completeness(inputs: &[Input], end: i64) -> f64 {
    let past = |i: &&Input| i.is_idle || i.watermark.is_some_and(|w| w >= end) || i.drained.is_some_and(|d| d >= end);
    inputs.iter().filter(past).count() as f64 / inputs.len().max(1) as f64
}

fn merge(
    model: &LiveModel,
    partials: &BTreeMap<i32, (i64, RecordBatch)>,
    start: i64,
) -> Result<RecordBatch, DataFusionError> {
    let mut panes = Panes::new(model)?;
    if partials.is_empty() {
        return Ok(RecordBatch::new_empty(model.output_schema().clone()));
    }
    for (_, states) in partials.values() {
        panes.merge(states, model)?;
    }
    model.finish(panes, start)
}

fn text(column: &ArrayRef, row: usize) -> Result<Option<String>, ProcessorError> {
    Ok(if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) })
}

fn group_key(group: &BTreeMap<String, Option<String>>) -> String {
    group.values().map(|v| v.as_deref().unwrap_or("\u{0}")).collect::<Vec<_>>().join("\u{1}")
}

/// The rows of a merged window, by group.
fn read_rows(model: &LiveModel, rows: &RecordBatch) -> Result<Rows, ProcessorError> {
    let mut read = Rows::new();
    for row in 0..rows.num_rows() {
        let mut group = BTreeMap::new();
        let mut measures = BTreeMap::new();
        for (spec, column) in model.columns.iter().zip(rows.columns()) {
            if spec.is_group {
                group.insert(spec.name.clone(), text(column, row)?);
            } else {
                measures.insert(spec.name.clone(), measure(column, row)?);
            }
        }
        read.insert(group_key(&group), (group, measures));
    }
    Ok(read)
}

fn measure(column: &ArrayRef, row: usize) -> Result<Measure, ProcessorError> {
    if column.is_null(row) {
        return Ok(Measure::Null);
    }
    Ok(match column.data_type() {
        DataType::Int64 => Measure::Long(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Measure::Double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, _) => Measure::Text(column.as_primitive::<Decimal128Type>().value_as_string(row)),
        data_type if data_type.is_integer() => {
            let wide = arrow::compute::cast(&column.slice(row, 1), &DataType::Int64)?;
            Measure::Long(wide.as_primitive::<Int64Type>().value(0))
        }
        DataType::Float32 | DataType::Float16 => {
            let wide = arrow::compute::cast(&column.slice(row, 1), &DataType::Float64)?;
            Measure::Double(wide.as_primitive::<Float64Type>().value(0))
        }
        _ => text(column, row)?.map_or(Measure::Null, Measure::Text),
    })
}

/// The measures of a known series in a window without events.
fn zeros(model: &LiveModel) -> BTreeMap<String, Measure> {
    let zero = |data_type: &DataType| match data_type {
        DataType::Float64 => Measure::Double(0.0),
        DataType::Decimal128(_, scale) => Measure::Text(format!("{:.*}", usize::try_from(*scale).unwrap_or(0), 0.0)),
        _ => Measure::Long(0),
    };
    let value = |c: &crate::OutputColumn| if c.is_additive { zero(&c.data_type) } else { Measure::Null };
    model.columns.iter().filter(|c| !c.is_group).map(|c| (c.name.clone(), value(c))).collect()
}

fn remember(known: &mut BTreeMap<String, KnownSeries>, rows: &Rows, start: i64, size: i64) {
    for (key, (group, _)) in rows {
        if let Some(series) = known.get_mut(key) {
            series.last_window = series.last_window.max(start);
        } else if known.len() < KNOWN_SERIES_MAX {
            known.insert(key.clone(), KnownSeries { group: group.clone(), last_window: start });
        }
    }
    known.retain(|_, series| series.last_window >= start - KNOWN_WINDOWS * size);
}

fn merged_versions(
    model: &LiveModel,
    rows: &RecordBatch,
    published: &BTreeMap<String, Published>,
) -> Result<Vec<i32>, ProcessorError> {
    (0..rows.num_rows())
        .map(|row| {
            let mut group = BTreeMap::new();
            for (spec, column) in model.columns.iter().zip(rows.columns()).filter(|(c, _)| c.is_group) {
                group.insert(spec.name.clone(), text(column, row)?);
            }
            Ok(published.get(&group_key(&group)).map_or(1, |p| p.version))
        })
        .collect()
}

fn sealed_rows(
    model: &LiveModel,
    rows: &RecordBatch,
    start: i64,
    versions: Vec<i32>,
    closed_by: &str,
) -> Result<RecordBatch, ProcessorError> {
    let n = rows.num_rows();
    let time = |millis| -> ArrayRef { Arc::new(TimestampMillisecondArray::from_value(millis, n).with_timezone("UTC")) };
    let mut columns = vec![time(start), time(start + model.window_millis)];
    columns.extend(rows.columns().iter().cloned());
    columns.push(Arc::new(Int32Array::from(versions)));
    columns.push(Arc::new(StringArray::from(vec![closed_by; n])));
    Ok(RecordBatch::try_new(Merger::sealed_schema(model), columns)?)
}

fn series_prefix(spec: &DetectSpec) -> String {
    format!("{:016x}#", xxh3_64(format!("{spec:?}").as_bytes()))
}

/// Shows a window that became final to the detectors.
fn watch(
    model: &LiveModel,
    spec: &DetectSpec,
    start: i64,
    rows: &Rows,
    all: &mut BTreeMap<String, Series>,
    origin: &[OffsetSpan],
    output: &mut MergeOutput,
) {
    let config =
        ZScoreConfig { window: spec.window, warmup: spec.warmup, threshold: spec.threshold, direction: spec.direction };
    let prefix = series_prefix(spec);
    let mut largest = 0.0_f64;
    for (key, (group, measures)) in rows {
        let wanted = |(column, value): (&String, &String)| {
            group.get(column).is_some_and(|v| v.as_deref() == Some(value.as_str()))
        };
        if !spec.only.iter().all(wanted) {
            continue;
        }
        let Some(value) = measures.get(&spec.measure).and_then(Measure::as_f64) else { continue };
        let series = all.entry(format!("{prefix}{key}")).or_default();
        let Some(reading) = series.detector.judge(value, &config) else { continue };
        if reading.score.abs() > largest.abs() {
            largest = reading.score;
        }
        let alert =
            |firing: &Firing, state| alert(model, spec, group, start, firing.first_window, &reading, state, origin);
        match (&mut series.firing, reading.unusual) {
            (None, true) => {
                let firing = Firing { first_window: start, usual_windows: 0 };
                output.alerts.push(alert(&firing, AlertState::Firing));
                series.firing = Some(firing);
            }
            (Some(firing), true) => {
                firing.usual_windows = 0;
                output.alerts.push(alert(firing, AlertState::Firing));
            }
            (Some(firing), false) => {
                firing.usual_windows += 1;
                if firing.usual_windows >= RESOLVED_AFTER {
                    output.alerts.push(alert(firing, AlertState::Resolved));
                    series.firing = None;
                }
            }
            (None, false) => {}
        }
    }
    output.scores.push((model.name.clone(), spec.measure.clone(), largest));
}

#[allow(clippy::too_many_arguments, reason = "one alert has this many sides")]
fn alert(
    model: &LiveModel,
    spec: &DetectSpec,
    group: &BTreeMap<String, Option<String>>,
    window: i64,
    first_window: i64,
    reading: &Reading,
    state: AlertState,
    origin: &[OffsetSpan],
) -> Alert {
    let detector = "zscore";
    let identity = format!("{}|{}|{first_window}|{}", model.name, group_key(group), series_prefix(spec));
    Alert {
        id: format!("{:016x}", xxh3_64(identity.as_bytes())),
        model: model.name.clone(),
        measure: spec.measure.clone(),
        group: group.clone(),
        detector: detector.to_owned(),
        state,
        severity: spec.severity,
        observed: reading.observed,
        expected: reading.expected,
        lower: reading.lower,
        upper: reading.upper,
        score: reading.score,
        tail_probability: reading.tail_probability,
        first_window: EventTime::new(first_window),
        last_window: EventTime::new(window),
        window_millis: model.window_millis,
        origin: origin.to_vec(),
    }
}
