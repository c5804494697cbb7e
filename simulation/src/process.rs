//! Processes of partition workers: they read, count, send partials, commit, keep checkpoints; and die between any two of
//! these. What the shell around the workers does is done here as it does it.

use crate::{
    shop::{Shop, append, limits},
    store::{Checkpoints, Fault, Faults, Table},
};
use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sluice_events::{
    EventDecoder, EventFormat, Offset, Partial, RecordBuffer, Records, Schemas, Validation, partition_for_key,
};
use sluice_stream_processor::{
    Counts, LiveModel, PartitionWorker, TimeRules, WorkerState, decode_checkpoint, encode_checkpoint,
};
use std::{collections::BTreeMap, sync::Arc};

/// Partition and offset; of silver, also whether the row is late.
pub(crate) type BronzeRow = (usize, i64);
pub(crate) type SilverRow = (usize, i64, bool);

/// What all processes write to.
#[derive(Default)]
pub(crate) struct Shared {
    /// The partitions of the topic of partials.
    pub partials: Vec<Vec<Partial>>,
    pub bronze: Table<BronzeRow>,
    pub dead_letters: Table<BronzeRow>,
    pub silver: Table<SilverRow>,
    pub checkpoints: Checkpoints,
}

impl Shared {
    /// To the merger of the model, or to all.
    fn send(&mut self, partials: Vec<Partial>, random: &mut ChaCha8Rng) {
        let count = self.partials.len() as u32;
        for partial in partials {
            let again = 1 + usize::from(random.random_bool(0.03));
            for _ in 0..again {
                match &partial.model {
                    Some(model) => {
                        let to = partition_for_key(model.as_bytes(), count).get() as usize;
                        self.partials[to].push(partial.clone());
                    }
                    None => self.partials.iter_mut().for_each(|topic| topic.push(partial.clone())),
                }
            }
        }
    }
}

/// The rules and models of a run.
#[derive(Clone)]
pub(crate) struct Setting {
    pub rules: TimeRules,
    pub models: Arc<[LiveModel]>,
    pub faults: Faults,
}

struct Running {
    worker: PartitionWorker,
    decoder: EventDecoder,
    /// What each table said was committed when the partition was taken, or last committed by us.
    expected: [Option<i64>; 3],
    upto: i64,
    bronze: Vec<BronzeRow>,
    dead_letters: Vec<BronzeRow>,
    silver: Vec<SilverRow>,
    is_idle: bool,
}

/// One process, and the partitions it believes to own.
pub(crate) struct Process {
    setting: Setting,
    partitions: i32,
    running: BTreeMap<usize, Running>,
}

pub(crate) fn app(partition: usize) -> String {
    format!("g/events/{partition}")
}

/// A process that is dead: whatever it held is gone.
pub(crate) struct Died;

impl From<Fault> for Died {
    fn from(_: Fault) -> Self {
        Self
    }
}

impl Process {
    pub fn new(setting: &Setting, partitions: usize) -> Self {
        Self { setting: setting.clone(), partitions: partitions as i32, running: BTreeMap::new() }
    }

    pub fn owns(&self, partition: usize) -> bool {
        self.running.contains_key(&partition)
    }

    pub fn position(&self, partition: usize) -> Option<i64> {
        self.running.get(&partition).map(|r| r.worker.position().get())
    }

    pub fn open_until(&self) -> Option<i64> {
        self.running.values().filter_map(|r| r.worker.open_until()).max()
    }

    /// Takes a partition over: from its newest usable checkpoint, else from the log's start, or from bronze.
    pub fn take(&mut self, partition: usize, shop: &Shop, shared: &Shared, random: &mut ChaCha8Rng) {
        let fresh = || {
            let place = (partition as i32, self.partitions);
            PartitionWorker::new("events", place, &self.setting.rules, &limits(), self.setting.models.clone()).unwrap()
        };
        let mut worker = fresh();
        let app = app(partition);
        let stored = shared.checkpoints.newest_first(&app);
        let usable = stored.iter().find_map(|bytes| decode_checkpoint::<WorkerState>(bytes).ok());
        let committed = shared.bronze.version(&app).zip(shared.silver.version(&app)).map(|(b, s)| b.min(s));
        match (usable, committed) {
            (Some(state), _) => worker.restore(state).unwrap(),
            // As when the log has begun to forget.
            (None, Some(upto)) if random.random_bool(0.5) => {
                let mut decoder = decoder();
                let records = records(shop, partition, 0, upto as usize + 1);
                let decoded = decoder.decode(partition as i32, &records).unwrap();
                worker.rebuild(&decoded.events, &[], Offset::new(upto)).unwrap();
                worker.rebuilt_upto(Offset::new(upto));
            }
            _ => {}
        }
        let running = Running {
            upto: worker.position().get() - 1,
            worker,
            decoder: decoder(),
            expected: [shared.bronze.version(&app), shared.dead_letters.version(&app), shared.silver.version(&app)],
            bronze: Vec::new(),
            dead_letters: Vec::new(),
            silver: Vec::new(),
            is_idle: false,
        };
        self.running.insert(partition, running);
    }

    /// Lets go of a partition that has been committed.
    pub fn drop_partition(&mut self, partition: usize) {
        self.running.remove(&partition);
    }

    /// Reads some records of a partition, of those that have come.
    pub fn ingest(&mut self, partition: usize, shop: &Shop, come: usize, count: usize) -> Option<Counts> {
        let running = self.running.get_mut(&partition)?;
        let from = running.worker.position().get() as usize;
        let upto = (from + count).min(come);
        if from >= upto {
            return None;
        }
        running.is_idle = false;
        let records = records(shop, partition, from, upto);
        let decoded = running.decoder.decode(partition as i32, &records).unwrap();
        let ingested = running.worker.ingest(&records, decoded, Validation::default()).unwrap();
        let offsets = |rows: &RecordBatch| -> Vec<i64> {
            rows.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        running.bronze.extend(offsets(&ingested.bronze).into_iter().map(|o| (partition, o)));
        running.dead_letters.extend(ingested.dead_letters.iter().map(|l| (partition, l.position)));
        let late = ingested.silver.column_by_name("is_late").unwrap().as_boolean().clone();
        let silver = offsets(&ingested.silver).into_iter().zip(late.values().iter());
        running.silver.extend(silver.map(|(offset, late)| (partition, offset, late)));
        running.upto = ingested.upto.get();
        let c = &ingested.counts;
        assert_eq!(c.received, c.processed + c.duplicate + c.invalid + c.undecodable, "the counts balance");
        assert!(c.late.values().sum::<u64>() <= c.processed);
        Some(ingested.counts)
    }

    pub fn send_partials(&mut self, partition: usize, shared: &mut Shared, random: &mut ChaCha8Rng) {
        if let Some(running) = self.running.get_mut(&partition) {
            shared.send(running.worker.take_partials().unwrap(), random);
        }
    }

    /// A partition of which nothing has come for a while.
    pub fn idle(&mut self, partition: usize, shared: &mut Shared, random: &mut ChaCha8Rng) {
        if let Some(running) = self.running.get_mut(&partition).filter(|r| !r.is_idle) {
            running.is_idle = true;
            shared.send(running.worker.idle().unwrap(), random);
        }
    }

    pub fn drain(&mut self, until: i64, shared: &mut Shared, random: &mut ChaCha8Rng) {
        for running in self.running.values_mut() {
            shared.send(running.worker.drain(until).unwrap(), random);
        }
    }

    /// Partials, both commits, checkpoints; dead between any two of them.
    pub fn end_epoch(&mut self, shared: &mut Shared, random: &mut ChaCha8Rng) -> Result<(), Died> {
        let faults = self.setting.faults;
        let dies = |random: &mut ChaCha8Rng| if faults.strikes(random) { Err(Died) } else { Ok(()) };
        let mut states = Vec::new();
        for (partition, running) in &mut self.running {
            shared.send(running.worker.take_partials().unwrap(), random);
            dies(random)?;
            let state = encode_checkpoint(&running.worker.snapshot().unwrap()).unwrap();
            states.push((app(*partition), running.worker.position().get(), state));
        }
        dies(random)?;
        self.commit(0, |shared| &mut shared.bronze, |r| &mut r.bronze, |row| row.1, shared, random)?;
        dies(random)?;
        self.commit(1, |shared| &mut shared.dead_letters, |r| &mut r.dead_letters, |row| row.1, shared, random)?;
        dies(random)?;
        self.commit(2, |shared| &mut shared.silver, |r| &mut r.silver, |row| row.1, shared, random)?;
        dies(random)?;
        for (worker, position, bytes) in states {
            shared.checkpoints.put(&worker, position, bytes, faults, random)?;
            dies(random)?;
        }
        Ok(())
    }

    /// Commits one table: the rows above what it covers, and how far it covers each partition now.
    fn commit<R: Clone>(
        &mut self,
        table_number: usize,
        table: impl Fn(&mut Shared) -> &mut Table<R>,
        rows_of: impl Fn(&mut Running) -> &mut Vec<R>,
        offset: impl Fn(&R) -> i64,
        shared: &mut Shared,
        random: &mut ChaCha8Rng,
    ) -> Result<(), Died> {
        let mut rows = Vec::new();
        let mut versions = BTreeMap::new();
        for (partition, running) in &mut self.running {
            let upto = running.upto;
            let expected = running.expected[table_number];
            let mut new = std::mem::take(rows_of(running));
            new.retain(|row| expected.is_none_or(|committed| offset(row) > committed));
            if !new.is_empty() {
                versions.insert(app(*partition), (expected, upto));
                running.expected[table_number] = Some(upto);
            }
            rows.extend(new);
        }
        table(shared).commit(rows, &versions, self.setting.faults, random)?;
        Ok(())
    }
}

fn decoder() -> EventDecoder {
    EventDecoder::new("events", EventFormat::Avro, Arc::new(Schemas::shipped()), 1 << 20)
}

fn records(shop: &Shop, partition: usize, from: usize, upto: usize) -> Records {
    let mut buffer = RecordBuffer::new();
    shop[partition][from..upto].iter().for_each(|record| append(record.as_ref(), &mut buffer));
    Records::contiguous(Offset::new(from as i64), buffer)
}
