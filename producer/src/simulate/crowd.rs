//! All visitors together: their events in event-time order.

use super::{
    countries::COUNTRIES,
    draft::{Draft, NONE, Visitor},
    effects::Effects,
    rhythm::Rhythm,
    segments::{ANONYMOUS, ANONYMOUS_SESSIONS},
    session::{BOT_VIEWS, Session},
    world::World,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};
use std::{cmp::Reverse, collections::BinaryHeap};

/// The low bits of a heap entry name the session, the high bits its next event time: one comparison of a number.
const SLOT_BITS: u32 = 26;
/// Sessions whose length gives the mean number of events of a session.
const TRIAL_SESSIONS: u32 = 20_000;
/// The rhythm is looked at this often.
const STEP_MILLIS: i64 = 60_000;

/// An endless crowd. Visits come at random (a Poisson process whose rate follows every country's civil time).
pub(crate) struct Crowd {
    // Settings.
    world: World,
    rhythm: Rhythm,
    /// Mean sessions a millisecond.
    sessions_per_milli: f64,
    /// Mean events a millisecond.
    events_per_milli: f64,
    /// Event time that heap entries count from.
    base: i64,
    // Live.
    effects: Effects,
    rng: ChaCha8Rng,
    sessions: Vec<Session>,
    free: Vec<u32>,
    due: BinaryHeap<Reverse<u64>>,
    arrivals: Arrivals,
}

/// When the next visitor comes, and from where, until things change.
#[derive(Default)]
struct Arrivals {
    next: f64,
    /// Up to here the rates below hold.
    until: i64,
    /// Sessions a millisecond: running sum over the countries, then over the robots.
    upto_country: Vec<f64>,
    upto_bot: Vec<(f64, Option<u8>, Option<u8>)>,
    total: f64,
}

impl Crowd {
    /// A crowd whose first visitors come at `begin`. `seed` draws what they do; the world is given.
    pub(crate) fn new(world: World, effects: Effects, seed: u64, events_per_second: f64, begin: i64) -> Self {
        let events_per_milli = events_per_second / 1_000.0;
        let mut crowd = Self {
            world,
            rhythm: Rhythm::new(),
            sessions_per_milli: 0.0,
            events_per_milli,
            base: begin,
            effects: Effects::new(&[], begin),
            rng: ChaCha8Rng::seed_from_u64(seed),
            sessions: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            arrivals: Arrivals::default(),
        };
        crowd.sessions_per_milli = events_per_milli / crowd.mean_events_per_session();
        crowd.effects = effects;
        crowd.redraw(begin);
        crowd
    }

    /// The next event. None only after eight years of event time, when the heap's numbers end.
    pub(crate) fn next(&mut self) -> Option<Draft> {
        loop {
            let soonest = self.due.peek().map_or(i64::MAX, |Reverse(entry)| self.base + (entry >> SLOT_BITS) as i64);
            if self.arrivals.until <= soonest.min(self.arrivals.next as i64) {
                self.redraw(self.arrivals.until);
                continue;
            }
            let (time, slot) = if self.arrivals.next < soonest as f64 {
                let time = self.arrivals.next as i64;
                let gap: f64 = Exp1.sample(&mut self.rng);
                let session = self.arrive();
                self.arrivals.next += gap / self.arrivals.total;
                (time, self.seat(session))
            } else {
                let Reverse(entry) = self.due.pop()?;
                (soonest, (entry & ((1 << SLOT_BITS) - 1)) as u32)
            };
            self.effects.advance(time);
            if let Some(draft) = self.act(time, slot)? {
                return Some(draft);
            }
        }
    }

    /// Lets the visitor act. Inner none: a country outage swallowed the event.
    fn act(&mut self, time: i64, slot: u32) -> Option<Option<Draft>> {
        let session = &mut self.sessions[slot as usize];
        let country = session.visitor.country;
        let missing = self.effects.missing(country);
        if missing > 0.0 && self.rng.random::<f32>() < missing {
            self.free.push(slot);
            return Some(None);
        }
        if session.pays_now() {
            let fails = self.effects.payment_fails(country);
            if fails > 0.0 && self.rng.random::<f32>() < fails {
                session.fail_payment();
            }
        }
        let (draft, next) = session.step(time, &self.world, &self.effects, &mut self.rng);
        match next {
            Some(millis) => {
                let after = (time - self.base) as u64 + millis;
                if after >= 1 << (64 - SLOT_BITS) {
                    return None;
                }
                self.due.push(Reverse(after << SLOT_BITS | u64::from(slot)));
            }
            None => self.free.push(slot),
        }
        Some(Some(draft))
    }

    fn seat(&mut self, session: Session) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.sessions[slot as usize] = session;
            return slot;
        }
        assert!(self.sessions.len() < 1 << SLOT_BITS, "no machine holds that many sessions: lower simulate.rate");
        self.sessions.push(session);
        self.sessions.len() as u32 - 1
    }

    /// Looks at the rhythm and the robots at `now`, and draws the next arrival anew: a Poisson process has no memory.
    fn redraw(&mut self, now: i64) {
        self.effects.advance(now);
        let mut sum = 0.0;
        let arrivals = &mut self.arrivals;
        arrivals.upto_country.clear();
        for (number, country) in COUNTRIES.iter().enumerate() {
            sum += country.share / 100.0 * self.rhythm.at(number, now) * self.sessions_per_milli;
            arrivals.upto_country.push(sum);
        }
        arrivals.upto_bot.clear();
        for bot in self.effects.bots() {
            sum += bot.strength * self.events_per_milli / f64::from(BOT_VIEWS);
            arrivals.upto_bot.push((sum, bot.country, bot.category));
        }
        arrivals.total = sum;
        let gap: f64 = Exp1.sample(&mut self.rng);
        arrivals.next = now as f64 + gap / sum;
        let minute = now.div_euclid(STEP_MILLIS) * STEP_MILLIS + STEP_MILLIS;
        arrivals.until = minute.min(self.effects.next_change());
    }

    fn arrive(&mut self) -> Session {
        let at = self.rng.random::<f64>() * self.arrivals.total;
        match self.arrivals.upto_country.iter().position(|upto| at < *upto) {
            Some(country) => self.person(country as u8),
            None => {
                let bot = self.arrivals.upto_bot.iter().find(|(upto, ..)| at < *upto);
                let (country, category) = bot.map_or((None, None), |(_, country, category)| (*country, *category));
                let country = country.unwrap_or_else(|| self.rng.random_range(0..COUNTRIES.len() as u8));
                let session = self.rng.random();
                let visitor = Visitor { customer: NONE, session, country, segment: ANONYMOUS, device: 1, channel: 0 };
                Session::robot(visitor, category)
            }
        }
    }

    fn person(&mut self, country: u8) -> Session {
        let rng = &mut self.rng;
        let known = !rng.random_bool(ANONYMOUS_SESSIONS);
        let customer = if known { self.world.customer_in(country, rng) } else { None };
        // Telephones lead; channel 0 is direct.
        let device = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][rng.random_range(0..10)];
        let channel = [0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5][rng.random_range(0..13)];
        Session::person(Visitor {
            customer: customer.map_or(NONE, |c| c.number),
            session: rng.random(),
            country,
            segment: customer.map_or(ANONYMOUS, |c| c.segment),
            device,
            channel,
        })
    }

    fn mean_events_per_session(&mut self) -> f64 {
        let mut events = 0_u64;
        for trial in 0..TRIAL_SESSIONS {
            // Countries in proportion, without a draw.
            let percent = f64::from(trial % 100) + 0.5;
            let mut sum = 0.0;
            let here = COUNTRIES.iter().position(|c| {
                sum += c.share;
                percent < sum
            });
            let mut session = self.person(here.unwrap_or(0) as u8);
            loop {
                events += 1;
                if session.step(0, &self.world, &self.effects, &mut self.rng).1.is_none() {
                    break;
                }
            }
        }
        events as f64 / f64::from(TRIAL_SESSIONS)
    }
}
