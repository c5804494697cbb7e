//! From what happened to what arrives: delays, duplicates, damage, clocks that run ahead.

use super::{SimulationPlan, crowd::Crowd, draft::Draft, effects::Effects, wording::Wording, world::World};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sluice_events::{EventEncoder, EventTime};
use std::{cmp::Reverse, collections::BinaryHeap};

/// The shop has been open for this long when the stream starts, so that its rate is right from the first second …
const WARM_UP_MILLIS: f64 = 1_200_000.0;
/// … but no more events than this are made and thrown away for it.
const WARM_UP_EVENTS: f64 = 500_000.0;
/// 2100-01-01: no log time of ours is later.
const YEAR_2100: i64 = 4_102_444_800_000;
const DAY_MILLIS: i64 = 86_400_000;

/// What a parcel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParcelKind {
    /// A good event, for the first time.
    Event,
    /// An event that arrived before.
    Duplicate,
    /// An event whose bytes are damaged.
    Malformed,
    /// An event stamped ahead of time.
    Future,
}

/// A record as it arrives at the log.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// When it arrives: the event time and a delay.
    pub arrival: EventTime,
    /// What it is.
    pub kind: ParcelKind,
    /// Message key.
    pub key: &'a [u8],
    /// The encoded event, or what is left of it.
    pub value: &'a [u8],
}

/// The stream of a plan, record by record in order of arrival.
pub struct Simulation {
    // Settings.
    encoder: EventEncoder,
    out_of_orderness_millis: i64,
    shares: Shares,
    future_from: i64,
    end: i64,
    events_left: u64,
    // Live.
    crowd: Crowd,
    wording: Wording,
    rng: ChaCha8Rng,
    upcoming: Option<Draft>,
    on_the_way: Vec<(Draft, ParcelKind)>,
    free: Vec<u32>,
    arrivals: BinaryHeap<Reverse<(i64, u32)>>,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Shares {
    duplicates: f64,
    malformed: f64,
    future: f64,
}

impl Simulation {
    /// The stream of a plan. Its events and faults are the same in every format.
    pub fn new(plan: &SimulationPlan, encoder: EventEncoder) -> Self {
        let config = &plan.config;
        let from = plan.from().get();
        let world = World::new(config.seed, config.customers, config.products);
        let wording = Wording::new(&world.catalogue);
        let warm_up = WARM_UP_MILLIS.min(WARM_UP_EVENTS / config.rate * 1_000.0) as i64;
        let effects = Effects::new(&plan.anomalies, plan.start().get());
        let mut crowd = Crowd::new(world, effects, plan.run_seed(), config.rate, from - warm_up);
        let mut upcoming = crowd.next();
        while upcoming.is_some_and(|draft| draft.time < from) {
            upcoming = crowd.next();
        }
        let mut simulation = Self {
            encoder,
            out_of_orderness_millis: config.out_of_orderness.as_millis() as i64,
            shares: Shares { duplicates: config.duplicates, malformed: config.malformed, future: config.future },
            future_from: if config.start.is_some() { YEAR_2100 } else { i64::MIN },
            end: plan.end(),
            events_left: config.events.unwrap_or(u64::MAX),
            crowd,
            wording,
            rng: ChaCha8Rng::seed_from_u64(plan.run_seed().rotate_left(32)),
            upcoming,
            on_the_way: Vec::new(),
            free: Vec::new(),
            arrivals: BinaryHeap::new(),
            key: Vec::new(),
            value: Vec::new(),
        };
        simulation.limit();
        simulation.gather();
        simulation
    }

    /// When the next record arrives; none at the stream's end.
    pub fn next_arrival(&self) -> Option<EventTime> {
        self.arrivals.peek().map(|Reverse((time, _))| EventTime::new(*time))
    }

    /// The next record.
    pub fn next_parcel(&mut self) -> Option<Parcel<'_>> {
        let Reverse((arrival, slot)) = self.arrivals.pop()?;
        let (draft, kind) = self.on_the_way[slot as usize];
        self.free.push(slot);
        self.gather();
        let event_time = match kind {
            ParcelKind::Future => {
                draft.time.max(self.future_from) + self.rng.random_range(2 * DAY_MILLIS..30 * DAY_MILLIS)
            }
            _ => draft.time,
        };
        let event = self.wording.event(&draft, event_time);
        self.key.clear();
        self.key.extend_from_slice(event.key().as_bytes());
        self.value.clear();
        self.encoder.encode(&event, &mut self.value);
        if kind == ParcelKind::Malformed {
            damage(&mut self.value, &mut self.rng);
        }
        Some(Parcel { arrival: EventTime::new(arrival), kind, key: &self.key, value: &self.value })
    }

    /// Sends off every event that may arrive before, or first of, those on the way: nothing arrives before it happened.
    fn gather(&mut self) {
        while let Some(draft) = self.upcoming {
            if self.arrivals.peek().is_some_and(|Reverse((arrival, _))| *arrival < draft.time) {
                return;
            }
            self.send_off(draft);
            self.upcoming = self.crowd.next();
            self.limit();
        }
    }

    fn send_off(&mut self, draft: Draft) {
        let kind = match self.rng.random::<f64>() {
            dice if dice < self.shares.malformed => ParcelKind::Malformed,
            dice if dice < self.shares.malformed + self.shares.future => ParcelKind::Future,
            _ => ParcelKind::Event,
        };
        // Three draws, the smallest: most events arrive soon, a few at the very end.
        let longest = self.out_of_orderness_millis;
        let delay =
            if longest == 0 { 0 } else { (0..3).map(|_| self.rng.random_range(0..=longest)).min().unwrap_or(0) };
        self.enqueue(draft.time + delay, draft, kind);
        self.events_left -= 1;
        if self.shares.duplicates > 0.0 && kind == ParcelKind::Event && self.rng.random_bool(self.shares.duplicates) {
            let again = self.rng.random_range(delay..=longest.max(1_000));
            self.enqueue(draft.time + again, draft, ParcelKind::Duplicate);
        }
    }

    fn enqueue(&mut self, arrival: i64, draft: Draft, kind: ParcelKind) {
        let slot = self.free.pop().unwrap_or(self.on_the_way.len() as u32);
        if slot as usize == self.on_the_way.len() {
            self.on_the_way.push((draft, kind));
        } else {
            self.on_the_way[slot as usize] = (draft, kind);
        }
        self.arrivals.push(Reverse((arrival, slot)));
    }

    /// Ends the stream where the plan says so.
    fn limit(&mut self) {
        if self.events_left == 0 || self.upcoming.is_some_and(|draft| draft.time >= self.end) {
            self.upcoming = None;
        }
    }
}

/// Breaks an encoded event, Avro or JSON, so that no reader can take it for one.
fn damage(value: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    match rng.random_range(0..4) {
        // Cut inside the body.
        0 => value.truncate(rng.random_range(5..value.len())),
        // Another first byte: neither Avro's magic 0 nor the brace of a JSON object.
        1 => {
            let byte = rng.random_range(1..=u8::MAX);
            value[0] = if byte == b'{' { b'[' } else { byte };
        }
        // Text where Avro should be, and no event where JSON should be.
        2 => {
            value.clear();
            let garbage = [&b"<html>502 Bad Gateway</html>"[..], b"{\"event\":\"oops\"}", b"\xff\xfe\xfd"];
            value.extend_from_slice(garbage.choose(rng).expect("there is garbage"));
        }
        // Bytes after the end.
        _ => value.extend_from_slice(b"\0\0"),
    }
}
