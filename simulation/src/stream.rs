//! Workers and a merger, driven at random, with what their shells do: commits, checkpoints, crashes, replays.

use crate::{
    models::models,
    shop::{Shop, ShopEvent, limits, rules},
};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Float64Type, TimestampMillisecondType},
    util::display::array_value_to_string,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sluice_events::{
    Event, EventDecoder, EventFormat, EventTime, Kpi, LogTime, Money, Offset, PaneState, Partial, RecordBuffer,
    Records, Schemas, Validation, encode_event,
};
use sluice_stream_processor::{
    LiveModel, Merger, MergerState, PartitionWorker, WorkerState, decode_checkpoint, encode_checkpoint,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) struct Stream {
    models: Arc<[LiveModel]>,
    inputs: Vec<Input>,
    /// The topic of partials.
    partials: Vec<Partial>,
    merger: Merger,
    merger_checkpoint: Vec<u8>,
    /// Rows that are committed, and those that are not yet, with the offsets of their messages.
    committed: BTreeSet<String>,
    committed_upto: i64,
    pending: Vec<(i64, String)>,
    kpis: BTreeMap<String, Kpi>,
    corrected: u64,
}

/// A partition: its records, its worker, the worker's checkpoint.
struct Input {
    records: Records,
    worker: PartitionWorker,
    decoder: EventDecoder,
    checkpoint: Option<Vec<u8>>,
    late: BTreeMap<i64, u64>,
    duplicates: BTreeMap<i64, u64>,
}

fn record(event: &ShopEvent, out: &mut RecordBuffer) {
    let mut value = Vec::new();
    let event = Event {
        event_id: &event.id,
        event_type: event.event_type,
        event_time: EventTime::new(event.time),
        customer_id: event.customer.as_deref(),
        session_id: None,
        order_id: None,
        product_id: Some("p"),
        category: None,
        country: event.country,
        device: event.device,
        channel: None,
        quantity: event.quantity,
        unit_price: event.price_units.map(Money::from_units),
        currency: None,
    };
    encode_event(&event, 1, &mut value);
    out.push(LogTime::new(0), None, Some(&value), &[]);
}

impl Stream {
    pub fn new(shop: &Shop) -> Self {
        let models = models();
        let count = shop.len() as i32;
        let inputs = shop.iter().enumerate().map(|(partition, events)| {
            let mut buffer = RecordBuffer::new();
            events.iter().for_each(|event| record(event, &mut buffer));
            Input {
                records: Records::contiguous(Offset::new(0), buffer),
                worker: PartitionWorker::new("events", (partition as i32, count), &rules(), &limits(), models.clone())
                    .unwrap(),
                decoder: EventDecoder::new("events", EventFormat::Avro, Arc::new(Schemas::shipped()), 1 << 20),
                checkpoint: None,
                late: BTreeMap::new(),
                duplicates: BTreeMap::new(),
            }
        });
        let merger = Merger::new(&rules(), models.clone()).unwrap();
        let merger_checkpoint = encode_checkpoint(&merger.snapshot().unwrap()).unwrap();
        Self {
            inputs: inputs.collect(),
            partials: Vec::new(),
            merger,
            merger_checkpoint,
            committed: BTreeSet::new(),
            committed_upto: -1,
            pending: Vec::new(),
            kpis: BTreeMap::new(),
            corrected: 0,
            models,
        }
    }

    /// Everything, in random steps, to the sealed end.
    pub fn run(&mut self, random: &mut ChaCha8Rng, crashes: bool) {
        while self.inputs.iter().any(|i| i.worker.position().get() < i.records.len() as i64) {
            let at = random.random_range(0..self.inputs.len());
            match random.random_range(0..if crashes { 100 } else { 90 }) {
                0..40 => self.ingest(at, random.random_range(1..30)),
                40..55 => self.send_partials(at),
                55..60 => self.checkpoint_worker(at),
                60..80 => self.merge(random.random_range(1..6)),
                80..85 => self.show_provisional(),
                85..90 => self.checkpoint_merger(random),
                90..95 => self.crash_worker(at),
                _ => self.crash_merger(),
            }
        }
        let until = self.inputs.iter().filter_map(|i| i.worker.open_until()).max().unwrap_or(0);
        for input in &mut self.inputs {
            self.partials.extend(input.worker.drain(until).unwrap());
        }
        if crashes {
            self.crash_merger();
        }
        self.merge(usize::MAX);
        self.commit();
    }

    fn ingest(&mut self, at: usize, count: usize) {
        let input = &mut self.inputs[at];
        let from = input.worker.position().get();
        let mut buffer = RecordBuffer::new();
        for i in from..(from + count as i64).min(input.records.len() as i64) {
            buffer.push_view(input.records.get(i as usize));
        }
        if buffer.is_empty() {
            return;
        }
        let records = Records::contiguous(Offset::new(from), buffer);
        let decoded = input.decoder.decode(at as i32, &records).unwrap();
        let ingested = input.worker.ingest(&records, decoded, Validation::default()).unwrap();
        assert!(ingested.dead_letters.is_empty());
        // By the offset of the batch, so that what a crash repeats is not counted twice.
        let late = ingested.counts.late.values().sum();
        let forget = |counts: &mut BTreeMap<i64, u64>| counts.retain(|offset, _| *offset < from);
        forget(&mut input.late);
        forget(&mut input.duplicates);
        input.late.insert(from, late);
        input.duplicates.insert(from, ingested.counts.duplicate);
    }

    fn send_partials(&mut self, at: usize) {
        self.partials.extend(self.inputs[at].worker.take_partials().unwrap());
    }

    fn checkpoint_worker(&mut self, at: usize) {
        self.send_partials(at);
        let state = self.inputs[at].worker.snapshot().unwrap();
        self.inputs[at].checkpoint = Some(encode_checkpoint(&state).unwrap());
    }

    fn crash_worker(&mut self, at: usize) {
        let count = self.inputs.len() as i32;
        let input = &mut self.inputs[at];
        input.worker =
            PartitionWorker::new("events", (at as i32, count), &rules(), &limits(), self.models.clone()).unwrap();
        if let Some(bytes) = &input.checkpoint {
            input.worker.restore(decode_checkpoint::<WorkerState>(bytes).unwrap()).unwrap();
        }
    }

    fn merge(&mut self, count: usize) {
        let from = self.merger.position();
        let upto = (from as usize).saturating_add(count).min(self.partials.len()) as i64;
        for offset in from..upto {
            let output = self.merger.apply(offset, self.partials[offset as usize].clone()).unwrap();
            for sealed in output.sealed {
                let model = &self.models[sealed.model];
                self.pending.extend(rows(model, &sealed.rows).into_iter().map(|row| (offset, row)));
            }
            self.publish(output.kpis);
        }
    }

    fn show_provisional(&mut self) {
        let kpis = self.merger.provisional().unwrap();
        assert!(kpis.iter().all(|k| k.state == PaneState::Provisional && k.version == 0));
        self.publish(kpis);
    }

    /// What a store does: only newer revisions replace.
    fn publish(&mut self, kpis: Vec<Kpi>) {
        for kpi in kpis {
            self.corrected += u64::from(kpi.state == PaneState::Corrected);
            match self.kpis.get(&kpi.id) {
                Some(stored) if stored.revision() >= kpi.revision() => {}
                _ => drop(self.kpis.insert(kpi.id.clone(), kpi)),
            }
        }
    }

    fn commit(&mut self) {
        for (offset, row) in std::mem::take(&mut self.pending) {
            if offset > self.committed_upto {
                assert!(self.committed.insert(row.clone()), "sealed twice: {row}");
            }
        }
        self.committed_upto = self.committed_upto.max(self.merger.position() - 1);
    }

    fn checkpoint_merger(&mut self, random: &mut ChaCha8Rng) {
        self.commit();
        // A crash may come between the commit and the checkpoint.
        if random.random_bool(0.7) {
            self.merger_checkpoint = encode_checkpoint(&self.merger.snapshot().unwrap()).unwrap();
        }
    }

    fn crash_merger(&mut self) {
        self.pending.clear();
        self.merger = Merger::new(&rules(), self.models.clone()).unwrap();
        self.merger.restore(decode_checkpoint::<MergerState>(&self.merger_checkpoint).unwrap()).unwrap();
    }

    pub fn sealed(&self) -> &BTreeSet<String> {
        &self.committed
    }

    pub fn late(&self) -> u64 {
        self.inputs.iter().flat_map(|i| i.late.values()).sum()
    }

    pub fn duplicates(&self) -> u64 {
        self.inputs.iter().flat_map(|i| i.duplicates.values()).sum()
    }

    pub fn corrected(&self) -> u64 {
        self.corrected
    }

    /// In the store each pane ends sealed, and says what the lake says.
    pub fn check_lives_of_panes(&self) {
        let mut with_events = 0;
        for kpi in self.kpis.values() {
            assert_eq!(kpi.state, PaneState::Sealed, "{kpi:?}");
            assert!(kpi.version >= 1, "{kpi:?}");
            let prefix = format!("{} {}", kpi.model, kpi.window_start.get());
            let group: Vec<&str> = kpi.group.values().map(|v| v.as_deref().unwrap_or("null")).collect();
            with_events += usize::from(self.committed.iter().any(|row| {
                row.strip_prefix(&prefix)
                    .is_some_and(|rest| group.iter().all(|value| rest.contains(&format!(" {value} "))))
            }));
        }
        assert!(with_events >= self.committed.len(), "{with_events} of {} rows are in the store", self.committed.len());
    }
}

/// The rows as text: model, window start in milliseconds, columns.
fn rows(model: &LiveModel, rows: &RecordBatch) -> Vec<String> {
    let starts = rows.column(0).as_primitive::<TimestampMillisecondType>();
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
            format!("{} {} {}", model.name, starts.value(row), values.join(" "))
        })
        .collect()
}
