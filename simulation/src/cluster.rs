//! A whole run: processes that come and go, partitions that change hands, idle phases, mergers, and time, all from one
//! stream of random numbers.

use crate::{
    merge::{MergeProcess, Published, rows},
    models::models,
    process::{Process, Setting, Shared, app},
    shop::{self, Shop},
    store::{Faults, Table},
    twin,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sluice_events::PaneState;
use std::collections::{BTreeMap, BTreeSet};

/// What happened in a run, so that one can see that the draws reach what they are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Happened {
    pub events: u64,
    pub late: u64,
    pub duplicates: u64,
    pub dead_letters: u64,
    pub sealed: u64,
    pub corrected: u64,
    pub retracted: u64,
    pub deaths: u64,
    pub rebalances: u64,
    pub fenced_or_failed: u64,
    pub idle: u64,
    pub lost_checkpoints: u64,
}

pub(crate) struct Cluster {
    setting: Setting,
    shop: Shop,
    /// How many records of each partition have come.
    come: Vec<usize>,
    shared: Shared,
    published: Published,
    /// The processes that live; the group says who owns what, and a process may not have heard.
    processes: Vec<Process>,
    owner: Vec<usize>,
    mergers: Vec<MergeProcess>,
    happened: Happened,
}

impl Cluster {
    pub fn new(random: &mut ChaCha8Rng) -> Self {
        let partitions = random.random_range(1..5);
        let rate = if random.random_bool(0.4) { 0.0 } else { random.random_range(0.005..0.06) };
        let setting = Setting { rules: shop::rules(random), models: models(), faults: Faults { rate } };
        let shop = shop::records(random, partitions);
        let shared = Shared { partials: vec![Vec::new(); random.random_range(1..4)], ..Shared::default() };
        let tables = setting.models.iter().map(|_| Table::default()).collect();
        let merge_partitions = shared.partials.len() as u32;
        let mut published = Published { tables, merge_partitions, ..Published::default() };
        let mut processes: Vec<Process> =
            (0..random.random_range(1..4)).map(|_| Process::new(&setting, partitions)).collect();
        let owner: Vec<usize> = (0..partitions).map(|p| p % processes.len()).collect();
        for (partition, process) in owner.iter().enumerate() {
            processes[*process].take(partition, &shop, &shared, random);
        }
        let mergers = (0..shared.partials.len())
            .map(|partition| MergeProcess::start(&setting, partition, &mut published))
            .collect();
        Self {
            come: vec![0; partitions],
            setting,
            shop,
            shared,
            published,
            processes,
            owner,
            mergers,
            happened: Happened::default(),
        }
    }

    /// Everything, in random steps, to the sealed end.
    pub fn run(mut self, random: &mut ChaCha8Rng) -> Result<Happened, String> {
        let disturbed = self.setting.faults.rate > 0.0;
        while (0..self.shop.len()).any(|p| self.position(p) < self.shop[p].len()) {
            self.step(random, disturbed);
        }
        // The end of the input, by whoever owns it, with everything in order: a drain that fails is begun again.
        self.setting.faults = Faults { rate: 0.0 };
        self.restart_all(random);
        for partition in 0..self.shop.len() {
            while self.position(partition) < self.shop[partition].len() {
                self.ingest(partition, 1_000);
            }
        }
        let until = self.processes.iter().filter_map(Process::open_until).max().unwrap_or(0);
        for process in &mut self.processes {
            process.drain(until, &mut self.shared, random);
            let _ = process.end_epoch(&mut self.shared, random);
        }
        if disturbed {
            self.restart_mergers();
        }
        for (partition, merger) in self.mergers.iter_mut().enumerate() {
            merger.merge(&self.shared.partials[partition], usize::MAX, &mut self.published);
            let _ = merger.end_epoch(&mut self.published, random);
        }
        self.check()
    }

    fn step(&mut self, random: &mut ChaCha8Rng, disturbed: bool) {
        let partition = random.random_range(0..self.shop.len());
        let process = random.random_range(0..self.processes.len());
        let merger = random.random_range(0..self.mergers.len());
        match random.random_range(0..if disturbed { 112 } else { 100 }) {
            0..15 => {
                let more = random.random_range(1..40);
                self.come[partition] = (self.come[partition] + more).min(self.shop[partition].len());
            }
            15..50 => {
                let count = random.random_range(1..30);
                // A process that was cut off from its group reads on: there may be two.
                for process in 0..self.processes.len() {
                    self.processes[process].ingest(partition, &self.shop, self.come[partition], count);
                }
            }
            50..60 => self.processes[process].send_partials(partition, &mut self.shared, random),
            60..64 => self.end_epoch(process, random),
            64..84 => {
                let count = random.random_range(1..8);
                self.mergers[merger].merge(&self.shared.partials[merger], count, &mut self.published);
            }
            84..88 => self.mergers[merger].show_provisional(&mut self.published),
            88..92 => {
                if self.mergers[merger].end_epoch(&mut self.published, random).is_err() {
                    self.happened.fenced_or_failed += 1;
                    self.mergers[merger] = MergeProcess::start(&self.setting, merger, &mut self.published);
                }
            }
            92..95 => {
                // Nothing more has come than was read, for a while.
                let owner = self.owner[partition];
                if self.position(partition) == self.come[partition] && self.come[partition] > 0 {
                    self.happened.idle += 1;
                    self.processes[owner].idle(partition, &mut self.shared, random);
                }
            }
            95..100 => self.rebalance(partition, process, random),
            100..103 => self.kill(process, random),
            103..106 => {
                self.happened.deaths += 1;
                self.mergers[merger] = MergeProcess::start(&self.setting, merger, &mut self.published);
            }
            106..109 => self.cut_off(partition, process, random),
            109..110 => {
                self.happened.lost_checkpoints += 1;
                self.shared.checkpoints.lose(&app(partition));
                self.kill(self.owner[partition], random);
            }
            110 => {
                self.happened.lost_checkpoints += 1;
                MergeProcess::lose_checkpoints(merger, &mut self.published);
                self.mergers[merger] = MergeProcess::start(&self.setting, merger, &mut self.published);
            }
            _ => {
                let (setting, count) = (&self.setting, self.shop.len());
                if self.processes.len() < 5 {
                    self.processes.push(Process::new(setting, count));
                }
            }
        }
    }

    fn position(&self, partition: usize) -> usize {
        self.processes[self.owner[partition]].position(partition).map_or(0, |p| p as usize)
    }

    fn ingest(&mut self, partition: usize, count: usize) {
        self.come[partition] = self.shop[partition].len();
        self.processes[self.owner[partition]].ingest(partition, &self.shop, self.come[partition], count);
    }

    fn end_epoch(&mut self, process: usize, random: &mut ChaCha8Rng) {
        if self.processes[process].end_epoch(&mut self.shared, random).is_err() {
            self.happened.fenced_or_failed += 1;
            self.kill(process, random);
        }
    }

    /// As the group does it: the one commits and lets go, then the other takes.
    fn rebalance(&mut self, partition: usize, to: usize, random: &mut ChaCha8Rng) {
        let from = self.owner[partition];
        if from == to {
            return;
        }
        self.happened.rebalances += 1;
        if self.processes[from].end_epoch(&mut self.shared, random).is_err() {
            self.happened.fenced_or_failed += 1;
            self.kill(from, random);
        }
        // Those of a dead process have been given away already.
        let from = self.owner[partition];
        if from != to {
            self.processes[from].drop_partition(partition);
            self.give(partition, to, random);
        }
    }

    fn give(&mut self, partition: usize, to: usize, random: &mut ChaCha8Rng) {
        self.owner[partition] = to;
        self.processes[to].take(partition, &self.shop, &self.shared, random);
    }

    /// A process dies, and another one starts in its place; the group gives its partitions to anybody.
    fn kill(&mut self, process: usize, random: &mut ChaCha8Rng) {
        self.happened.deaths += 1;
        self.processes[process] = Process::new(&self.setting, self.shop.len());
        for partition in 0..self.owner.len() {
            if self.owner[partition] == process {
                let to = random.random_range(0..self.processes.len());
                self.give(partition, to, random);
            }
        }
    }

    /// The group gives a partition away without the owner hearing of it: until it commits, there are two.
    fn cut_off(&mut self, partition: usize, to: usize, random: &mut ChaCha8Rng) {
        if self.owner[partition] != to && !self.processes[to].owns(partition) {
            self.happened.rebalances += 1;
            self.give(partition, to, random);
        }
    }

    fn restart_all(&mut self, random: &mut ChaCha8Rng) {
        let count = self.shop.len();
        self.processes = vec![Process::new(&self.setting, count)];
        for partition in 0..count {
            self.give(partition, 0, random);
        }
    }

    fn restart_mergers(&mut self) {
        for (partition, merger) in self.mergers.iter_mut().enumerate() {
            *merger = MergeProcess::start(&self.setting, partition, &mut self.published);
        }
    }

    fn check(mut self) -> Result<Happened, String> {
        let expected = twin::expected(&self.shop, &self.setting.rules);
        // 1. The ledger: no record lost, none twice, and each where it belongs.
        let once = |rows: &[(usize, i64)], what: &str| {
            let set: BTreeSet<_> = rows.iter().copied().collect();
            if set.len() == rows.len() {
                Ok(set)
            } else {
                Err(format!("{} rows are twice in {what}", rows.len() - set.len()))
            }
        };
        let bronze = once(&self.shared.bronze.rows, "bronze")?;
        let dead_letters = once(&self.shared.dead_letters.rows, "dead letters")?;
        equal("bronze", &expected.bronze, &bronze)?;
        equal("dead letters", &expected.dead_letters, &dead_letters)?;
        let silver: BTreeMap<(usize, i64), bool> =
            self.shared.silver.rows.iter().map(|(p, o, late)| ((*p, *o), *late)).collect();
        if silver.len() != self.shared.silver.rows.len() {
            return Err("rows are twice in silver".to_owned());
        }
        let texts = |rows: &BTreeMap<(usize, i64), bool>| rows.iter().map(|r| format!("{r:?}")).collect();
        equal("silver", &texts(&expected.silver), &texts(&silver))?;
        // 2. Stream = batch, each pane once.
        let mut sealed = BTreeSet::new();
        for (model, table) in self.setting.models.iter().zip(&self.published.tables) {
            for row in table.rows.iter().flat_map(|batch| rows(model, batch)) {
                if !sealed.insert(row.clone()) {
                    return Err(format!("sealed twice: {row}"));
                }
            }
        }
        equal("sealed panes", &expected.panes, &sealed)?;
        // In the store each pane ends sealed, and no other is there.
        for kpi in self.published.kpis.values() {
            if kpi.state != PaneState::Sealed || kpi.version < 1 {
                return Err(format!("{kpi:?} is not sealed in the store"));
            }
        }
        let sessions = self.published.kpis.values().filter(|k| k.model == "sessions").count();
        let expected_sessions = expected.panes.iter().filter(|row| row.starts_with("sessions ")).count();
        if sessions != expected_sessions {
            return Err(format!("{sessions} sessions in the store, the twin has {expected_sessions}"));
        }
        self.happened.events = expected.bronze.len() as u64;
        self.happened.late = expected.silver.values().filter(|late| **late).count() as u64;
        self.happened.duplicates = (expected.bronze.len() - expected.silver.len()) as u64;
        self.happened.dead_letters = expected.dead_letters.len() as u64;
        self.happened.sealed = expected.panes.len() as u64;
        self.happened.corrected = self.published.corrected;
        self.happened.retracted = self.published.retracted;
        Ok(self.happened)
    }
}

fn equal<T: Ord + std::fmt::Debug>(what: &str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let missing: Vec<_> = expected.difference(found).take(5).collect();
    let wrong: Vec<_> = found.difference(expected).take(5).collect();
    Err(format!("{what}: the twin has {missing:?}, the run has {wrong:?}"))
}
