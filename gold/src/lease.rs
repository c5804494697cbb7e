//! The right to make tables of gold: of all processes over one lake, one has it at a time.
//!
//! It is a `txn` action in the log of `gold.runs`: the version of application `gold/lease` is the moment, in milliseconds
//! since 1970, until which it is held. Delta lets one of two takers through; who has it puts that moment off while it works.
//! A process that dies leaves a lease that runs out. Clocks of machines may differ by half its length.

use arrow::array::RecordBatch;
use sluice_sinks::lake::{LakeError, LakeTable};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

const APP: &str = "gold/lease";
/// It is put off so many times in its length.
const BEATS: u32 = 3;

/// A lease that is held, and the history of runs, to which only its holder writes.
pub struct Lease {
    runs: Arc<Mutex<LakeTable>>,
    length: Duration,
    clock: fn() -> i64,
    beat: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Takes it, for `length` at a time; none when another process has it. `clock` gives milliseconds since 1970. Blocks: not
    /// for threads of the lake's runtime.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take(mut runs: LakeTable, length: Duration, clock: fn() -> i64) -> Result<Option<Self>, LakeError> {
        runs.reload(APP)?;
        if runs.committed(APP)?.is_some_and(|until| until > clock()) {
            return Ok(None);
        }
        match put_off(&mut runs, clock() + millis(length)) {
            Ok(()) => {}
            Err(LakeError::Fenced { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let runs = Arc::new(Mutex::new(runs));
        let (stop, stopped) = mpsc::channel::<()>();
        let beating = runs.clone();
        let beat = std::thread::spawn(move || {
            while stopped.recv_timeout(length / BEATS) == Err(mpsc::RecvTimeoutError::Timeout) {
                match put_off(&mut locked(&beating), clock() + millis(length)) {
                    Ok(()) => {}
                    // Whoever runs learns it with the next row.
                    Err(LakeError::Fenced { .. }) => return,
                    Err(error) => tracing::warn!(%error, "the lease on gold could not be put off; trying again"),
                }
            }
        });
        Ok(Some(Self { runs, length, clock, beat: Some((stop, beat)) }))
    }

    /// Adds a row to the history of runs.
    ///
    /// # Errors
    /// [`LakeError::Fenced`] when another process has the lease by now; else when the store fails.
    pub fn note(&self, run: &RecordBatch) -> Result<(), LakeError> {
        let mut runs = locked(&self.runs);
        runs.write(run)?;
        runs.cover(APP, (self.clock)() + millis(self.length));
        runs.commit().map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, beat)) = self.beat.take() {
            drop(stop);
            let _ = beat.join();
        }
        match put_off(&mut locked(&self.runs), (self.clock)()) {
            Ok(()) | Err(LakeError::Fenced { .. }) => {}
            Err(error) => tracing::warn!(%error, "the lease on gold could not be given back; it runs out by itself"),
        }
    }
}

fn put_off(runs: &mut LakeTable, until: i64) -> Result<(), LakeError> {
    runs.cover(APP, until);
    // A commit without rows has to count something.
    runs.count(APP, 1);
    runs.commit().map(drop)
}

fn locked(runs: &Mutex<LakeTable>) -> MutexGuard<'_, LakeTable> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(length: Duration) -> i64 {
    length.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outcome, Run, runs_table, tests::lake};
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicI64, Ordering},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn row() -> RecordBatch {
        let run = Run {
            run_id: "1".to_owned(),
            model: "m".to_owned(),
            fingerprint: String::new(),
            started_at: 0,
            ended_at: 1,
            outcome: Outcome::Done,
            rows: Some(1),
            parts: None,
            version: None,
            inputs: BTreeMap::new(),
            error: None,
        };
        run.row().unwrap()
    }

    #[test]
    fn one_has_it_at_a_time_and_the_dead_lose_it() {
        static NOW: AtomicI64 = AtomicI64::new(1_000);
        let (lake, _dir, _runtime) = lake();
        let take = || Lease::take(lake.table(runs_table()).unwrap(), HOUR, || NOW.load(Ordering::Relaxed)).unwrap();
        let first = take().expect("nobody has it");
        assert!(take().is_none());
        first.note(&row()).unwrap();
        drop(first);
        let dead = take().expect("it was given back");
        NOW.fetch_add(2 * millis(HOUR), Ordering::Relaxed);
        let next = take().expect("it ran out");
        assert!(matches!(dead.note(&row()), Err(LakeError::Fenced { .. })), "who lost it writes nothing");
        drop(dead);
        assert!(take().is_none(), "nor gives back what is another's");
        next.note(&row()).unwrap();
    }

    #[test]
    fn it_is_put_off_while_it_is_held() {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let (lake, _dir, _runtime) = lake();
        let length = Duration::from_millis(30);
        let _lease = Lease::take(lake.table(runs_table()).unwrap(), length, || NOW.fetch_add(1, Ordering::Relaxed));
        let until = || lake.table(runs_table()).unwrap().committed(APP).unwrap().unwrap();
        let first = until();
        for _ in 0..500 {
            if until() > first {
                return;
            }
            std::thread::sleep(length / 3);
        }
        panic!("it was not put off");
    }
}
