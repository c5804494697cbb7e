//! Merge workers, one for each partition of the partials: they merge, publish, commit, keep checkpoints, and die.

use crate::{
    process::{Died, Setting},
    store::{Checkpoints, Table},
};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Float64Type, TimestampMillisecondType},
    util::display::array_value_to_string,
};
use rand_chacha::ChaCha8Rng;
use sluice_events::{Kpi, PaneState, Partial, partition_for_key};
use sluice_stream_processor::{
    LiveModel, MergeOutput, Merger, MergerState, decode_checkpoint, encode_checkpoint, root_of,
};
use std::collections::BTreeMap;

/// What mergers write to.
#[derive(Default)]
pub(crate) struct Published {
    /// Sealed rows of each model.
    pub tables: Vec<Table<RecordBatch>>,
    pub kpis: BTreeMap<String, Kpi>,
    pub corrected: u64,
    pub retracted: u64,
    pub checkpoints: Checkpoints,
    pub merge_partitions: u32,
}

impl Published {
    fn take(&mut self, output: MergeOutput) {
        for kpi in output.kpis {
            self.corrected += u64::from(kpi.state == PaneState::Corrected);
            // What a store does.
            match self.kpis.get(&kpi.id) {
                Some(stored) if stored.rank() >= kpi.rank() => {}
                _ => drop(self.kpis.insert(kpi.id.clone(), kpi)),
            }
        }
        for key in output.retracted {
            self.retracted += 1;
            self.kpis.remove(&key.id);
        }
    }
}

/// One merge worker.
pub(crate) struct MergeProcess {
    setting: Setting,
    partition: usize,
    merger: Merger,
    /// Rows that are not committed, by model, with the offsets of their messages.
    pending: Vec<Vec<(i64, RecordBatch)>>,
    expected: Vec<Option<i64>>,
    expected_sealed: Vec<Option<i64>>,
}

/// Where the partials of a model go.
fn owner(model: &str, merge_partitions: u32) -> usize {
    partition_for_key(model.as_bytes(), merge_partitions).get() as usize
}

fn app(partition: usize) -> String {
    format!("g/partials/{partition}")
}

impl MergeProcess {
    /// From the newest usable checkpoint, else from the log's start and what the tables say.
    pub fn start(setting: &Setting, partition: usize, published: &mut Published) -> Self {
        let models = setting.models.clone();
        let mut merger = Merger::new(&setting.rules, models.clone()).unwrap();
        let stored = published.checkpoints.newest_first(&app(partition));
        let version = |table: &Table<RecordBatch>, app: &str| table.version(app);
        let sealed: Vec<Option<i64>> =
            models.iter().zip(&published.tables).map(|(m, t)| version(t, &format!("sealed/{}", m.name))).collect();
        match stored.iter().find_map(|bytes| decode_checkpoint::<MergerState>(bytes).ok()) {
            Some(state) => merger.restore(state).unwrap(),
            None => {
                // What was said and not sealed may have been wrong, and nobody remembers having said it.
                let is_mine = |kpi: &Kpi| {
                    let at = models.iter().position(|m| m.name == kpi.model).unwrap();
                    owner(&models[root_of(&models, at)].name, published.merge_partitions) == partition
                };
                let open: Vec<String> = published
                    .kpis
                    .values()
                    .filter(|kpi| kpi.state != PaneState::Sealed && is_mine(kpi))
                    .map(|kpi| kpi.id.clone())
                    .collect();
                open.iter().for_each(|id| drop(published.kpis.remove(id)));
                let known = models.iter().zip(&sealed).filter_map(|(m, until)| Some((m.name.clone(), (*until)?)));
                merger.resume_after(&known.collect());
                for needs in merger.needs_rows() {
                    if owner(&models[needs.root].name, published.merge_partitions) != partition {
                        continue;
                    }
                    for rows in &published.tables[needs.upstream].rows {
                        let columns: Vec<usize> = (0..models[needs.upstream].pane_schema().fields().len()).collect();
                        let rows = rows.project(&columns).unwrap();
                        let times =
                            rows.column_by_name(needs.column).unwrap().as_primitive::<TimestampMillisecondType>();
                        let new = arrow::array::BooleanArray::from_unary(times, |time| time >= needs.from);
                        merger.recount(needs.model, &filter_record_batch(&rows, &new).unwrap()).unwrap();
                    }
                }
            }
        }
        Self {
            setting: setting.clone(),
            partition,
            merger,
            pending: models.iter().map(|_| Vec::new()).collect(),
            expected: published.tables.iter().map(|t| version(t, &app(partition))).collect(),
            expected_sealed: sealed,
        }
    }

    pub fn position(&self) -> usize {
        self.merger.position() as usize
    }

    pub fn merge(&mut self, topic: &[Partial], count: usize, published: &mut Published) {
        let from = self.position();
        for (offset, partial) in topic.iter().enumerate().skip(from).take(count) {
            let mut output = self.merger.apply(offset as i64, partial.clone()).unwrap();
            for sealed in output.sealed.drain(..) {
                self.pending[sealed.model].push((offset as i64, sealed.rows));
            }
            assert!(output.unknown.is_empty(), "all models are known");
            published.take(output);
        }
    }

    pub fn show_provisional(&mut self, published: &mut Published) {
        let kpis = self.merger.provisional().unwrap();
        assert!(kpis.iter().all(|k| k.state == PaneState::Provisional && k.version == 0));
        published.take(MergeOutput { kpis, ..MergeOutput::default() });
    }

    /// Commits the tables one after the other, then keeps the state; dead between any two of these.
    pub fn end_epoch(&mut self, published: &mut Published, random: &mut ChaCha8Rng) -> Result<(), Died> {
        let faults = self.setting.faults;
        let sealed_until: BTreeMap<String, i64> =
            self.merger.sealed_until().map(|(name, until)| (name.to_owned(), until)).collect();
        for (at, model) in self.setting.models.iter().enumerate() {
            let mut rows = Vec::new();
            let mut covered = None;
            for (offset, batch) in self.pending[at].drain(..) {
                if self.expected[at].is_none_or(|committed| offset > committed) {
                    covered = Some(offset);
                    rows.push(batch);
                }
            }
            let Some(offset) = covered else { continue };
            let mut versions = BTreeMap::from([(app(self.partition), (self.expected[at], offset))]);
            if let Some(until) = sealed_until.get(&model.name) {
                versions.insert(format!("sealed/{}", model.name), (self.expected_sealed[at], *until));
                self.expected_sealed[at] = Some(*until);
            }
            self.expected[at] = Some(offset);
            published.tables[at].commit(rows, &versions, faults, random)?;
            if faults.strikes(random) {
                return Err(Died);
            }
        }
        let bytes = encode_checkpoint(&self.merger.snapshot().unwrap()).unwrap();
        published.checkpoints.put(&app(self.partition), self.merger.position(), bytes, faults, random)?;
        Ok(())
    }

    /// Nothing of its state is kept anywhere but in the tables.
    pub fn lose_checkpoints(partition: usize, published: &mut Published) {
        published.checkpoints.lose(&app(partition));
    }
}

/// Sealed rows as text: model, start, end, columns.
pub(crate) fn rows(model: &LiveModel, rows: &RecordBatch) -> Vec<String> {
    let bound = |column: usize, row: usize| rows.column(column).as_primitive::<TimestampMillisecondType>().value(row);
    let shown = |name: &str, row: usize| {
        let column = rows.column_by_name(name).unwrap();
        match column.data_type() {
            _ if column.is_null(row) => "null".to_owned(),
            DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
            _ => array_value_to_string(column, row).unwrap(),
        }
    };
    (0..rows.num_rows())
        .map(|row| {
            let values: Vec<String> = model.columns.iter().map(|c| shown(&c.name, row)).collect();
            format!("{} {} {} {}", model.name, bound(0, row), bound(1, row), values.join(" "))
        })
        .collect()
}
