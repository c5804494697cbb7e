//! The shop as it goes: from the simulation into the log, at the pace of a clock.

use super::{ParcelKind, Simulation, SimulationPlan};
use crate::{Clock, ProducerError, ProducerTopics, Progress, Sent, outbox::Outbox, pace::Pace};
use serde::Serialize;
use sluice_event_log::EventLog;
use sluice_events::EventTime;
use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// Records between two looks at the clock and the stop flag.
const RECORDS_PER_LOOK: u32 = 1_024;

/// What a run sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SimulateSummary {
    /// Good events, each counted once.
    pub events: u64,
    /// Events sent a second time.
    pub duplicates: u64,
    /// Damaged records.
    pub malformed: u64,
    /// Events stamped ahead of time.
    pub future: u64,
    /// Bytes of all values.
    pub bytes: u64,
    /// Arrival time of the last record: where a later run may go on.
    pub last_arrival: Option<EventTime>,
    /// Whether the stop flag ended it.
    pub stopped: bool,
}

impl fmt::Display for SimulateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, duplicates, malformed, future, .. } = self;
        write!(f, "{events} events, {duplicates} duplicates, {malformed} malformed, {future} stamped ahead")?;
        if self.stopped { f.write_str("; stopped") } else { Ok(()) }
    }
}

impl SimulateSummary {
    /// All records sent.
    pub fn records(&self) -> u64 {
        self.events + self.duplicates + self.malformed + self.future
    }
}

/// Runs a plan until its end or until `stop`. Everything sent is flushed when it returns.
/// Paced runs send what is due about every 50 ms; `speed = 0` sends thousands of records at a time.
///
/// # Errors
/// When the log fails.
pub fn simulate(
    plan: &SimulationPlan,
    log: &dyn EventLog,
    topics: &ProducerTopics,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<SimulateSummary, ProducerError> {
    let mut outbox = Outbox::new(log, &topics.events)?;
    let mut simulation = Simulation::new(plan, topics.event_encoder);
    let mut pace = Pace::new(plan.config.speed);
    let mut summary = SimulateSummary::default();
    while let Some(next) = simulation.next_arrival() {
        if stop.load(Ordering::Relaxed) {
            summary.stopped = true;
            break;
        }
        let horizon = pace.horizon(plan.from().get(), clock);
        if next.get() > horizon {
            outbox.send_all()?;
            let wait = pace.wait_millis(next.get(), clock);
            Pace::nap(wait, clock);
            continue;
        }
        send_due(&mut simulation, horizon, &mut outbox, &mut summary)?;
        progress.report(Sent { records: summary.records(), bytes: summary.bytes });
    }
    outbox.send_all()?;
    log.flush()?;
    progress.finish();
    Ok(summary)
}

fn send_due(
    simulation: &mut Simulation,
    horizon: i64,
    outbox: &mut Outbox<'_>,
    summary: &mut SimulateSummary,
) -> Result<(), ProducerError> {
    for _ in 0..RECORDS_PER_LOOK {
        if simulation.next_arrival().is_none_or(|arrival| arrival.get() > horizon) {
            break;
        }
        let Some(parcel) = simulation.next_parcel() else { break };
        outbox.push(outbox.partition(parcel.key), Some(parcel.key), parcel.value, &[])?;
        summary.bytes += parcel.value.len() as u64;
        summary.last_arrival = Some(parcel.arrival);
        *match parcel.kind {
            ParcelKind::Event => &mut summary.events,
            ParcelKind::Duplicate => &mut summary.duplicates,
            ParcelKind::Malformed => &mut summary.malformed,
            ParcelKind::Future => &mut summary.future,
        } += 1;
    }
    Ok(())
}
