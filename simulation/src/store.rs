//! The lake and the store of checkpoints, in memory, with the faults that real ones have.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// What a store did not do, or did and could not tell.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is as if it had not been asked, or as if it had.
    Failed,
    /// Another worker has committed further.
    Fenced,
}

/// How often things go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub rate: f64,
}

impl Faults {
    pub fn strikes(self, random: &mut ChaCha8Rng) -> bool {
        self.rate > 0.0 && random.random_bool(self.rate)
    }
}

/// A table whose commits carry the versions of the applications that wrote them.
#[derive(Debug)]
pub(crate) struct Table<R> {
    pub rows: Vec<R>,
    versions: BTreeMap<String, i64>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), versions: BTreeMap::new() }
    }
}

impl<R> Table<R> {
    pub fn version(&self, app: &str) -> Option<i64> {
        self.versions.get(app).copied()
    }

    /// Appends rows and the versions that cover them, unless one of those is not as expected.
    pub fn commit(
        &mut self,
        rows: Vec<R>,
        versions: &BTreeMap<String, (Option<i64>, i64)>,
        faults: Faults,
        random: &mut ChaCha8Rng,
    ) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        if faults.strikes(random) {
            return Err(Fault::Failed);
        }
        if versions.iter().any(|(app, (expected, _))| self.version(app) != *expected) {
            return Err(Fault::Fenced);
        }
        self.rows.extend(rows);
        for (app, (_, version)) in versions {
            self.versions.insert(app.clone(), *version);
        }
        // Done, and nobody was told.
        if faults.strikes(random) { Err(Fault::Failed) } else { Ok(()) }
    }
}

/// Checkpoints by worker, newest last, three of each.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    kept: BTreeMap<String, BTreeMap<i64, Vec<u8>>>,
}

impl Checkpoints {
    pub fn put(
        &mut self,
        worker: &str,
        position: i64,
        mut bytes: Vec<u8>,
        faults: Faults,
        random: &mut ChaCha8Rng,
    ) -> Result<(), Fault> {
        if faults.strikes(random) {
            return Err(Fault::Failed);
        }
        if faults.strikes(random) {
            // Cut, or a flipped bit: a reader must see it.
            match random.random_bool(0.5) {
                true => bytes.truncate(random.random_range(0..bytes.len())),
                false => {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] ^= 1 << random.random_range(0..8);
                }
            }
        }
        let kept = self.kept.entry(worker.to_owned()).or_default();
        kept.insert(position, bytes);
        while kept.len() > 3 {
            kept.pop_first();
        }
        Ok(())
    }

    pub fn newest_first(&self, worker: &str) -> Vec<Vec<u8>> {
        self.kept.get(worker).map_or(Vec::new(), |kept| kept.values().rev().cloned().collect())
    }

    pub fn lose(&mut self, worker: &str) {
        self.kept.remove(worker);
    }
}
