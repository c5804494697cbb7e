//! Pace and stop, on a clock that the test owns.

use crate::{memory_log::MemoryLog, simulate::config, topics};
use sluice_events::LogTime;
use sluice_producer::{Clock, NoProgress, ReplayConfig, SimulateConfig, SimulationPlan, SystemClock, replay, simulate};
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

/// Sleeping moves it; at `alarm` it raises the flag.
struct HandClock<'a> {
    now: AtomicI64,
    alarm: i64,
    flag: &'a AtomicBool,
}

impl Clock for HandClock<'_> {
    fn now(&self) -> LogTime {
        LogTime::new(self.now.load(Ordering::Relaxed))
    }

    fn sleep(&self, time: Duration) {
        let now = self.now.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
        self.flag.fetch_or(now >= self.alarm, Ordering::Relaxed);
    }
}

#[test]
fn a_paced_simulation_sends_steadily_and_stops_at_once() {
    let stop = AtomicBool::new(false);
    let clock = HandClock { now: AtomicI64::new(0), alarm: 30_000, flag: &stop };
    let log = MemoryLog::new(1);
    let paced = SimulateConfig { speed: 2.0, duration: None, out_of_orderness: Duration::ZERO, ..config() };
    let plan = SimulationPlan::new(paced, Vec::new(), clock.now()).unwrap();
    let summary = simulate(&plan, &log, &topics(), &clock, &stop, &NoProgress).unwrap();
    assert!(summary.stopped);
    assert_eq!(log.all("events").len() as u64, summary.records(), "what was made was sent");
    let passed = summary.last_arrival.unwrap().get() - plan.start().get();
    assert!((59_500..=60_200).contains(&passed), "two seconds of event time a second: {passed}");
    let appends = log.appends.lock().unwrap();
    assert!(appends.len() > 300, "{} appends in 30 s", appends.len());
    assert!(appends.iter().all(|n| *n < 60), "no lumps: {:?}", appends.iter().max());
}

#[test]
fn a_paced_replay_keeps_the_recorded_gaps_and_a_stopped_one_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    let lines: String = (0..100)
        .map(|i| {
            format!("{{\"event_id\":\"e{i}\",\"event_type\":\"page_view\",\"event_time\":{}}}\n", 1_700_000_000 + i)
        })
        .collect();
    fs::write(&file, lines).unwrap();
    let stop = AtomicBool::new(false);
    let clock = HandClock { now: AtomicI64::new(0), alarm: 5_000, flag: &stop };
    let log = MemoryLog::new(3);
    let config = ReplayConfig { files: vec![file], speed: 10.0 };
    let summary = replay(&config, &log, &topics(), &clock, &stop, &NoProgress).unwrap();
    assert!(summary.stopped && (49..=52).contains(&summary.events), "{summary:?}");
    assert_eq!(log.all("events").len() as u64, summary.events);
    let config = ReplayConfig { speed: 0.0, ..config };
    let rest = replay(&config, &log, &topics(), &SystemClock, &AtomicBool::new(false), &NoProgress).unwrap();
    assert_eq!((rest.skipped, rest.events), (summary.events, 100 - summary.events));
    assert_eq!(log.all("events").len(), 100);
}
