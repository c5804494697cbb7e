//! When an event time is due on the clock.

use crate::Clock;
use std::time::Duration;

/// Nobody waits longer than this without looking at the stop flag.
const NAP: Duration = Duration::from_millis(50);

/// Maps event time onto the clock: `speed` seconds of event time pass in one second.
/// Event times that step back are due at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Event time and clock at the first event, in milliseconds; none until then.
    origin: Option<(i64, i64)>,
    speed: f64,
}

impl Pace {
    /// `speed` 0: everything is due at once.
    pub(crate) fn new(speed: f64) -> Self {
        Self { origin: None, speed }
    }

    /// How long until this event time is due, in milliseconds; not above 0 when it is. The first one asked for is due at once.
    pub(crate) fn wait_millis(&mut self, event_time: i64, clock: &dyn Clock) -> i64 {
        if self.speed <= 0.0 {
            return 0;
        }
        let now = clock.now().get();
        let (first_event, first_clock) = *self.origin.get_or_insert((event_time, now));
        let due = first_clock.saturating_add(((event_time.saturating_sub(first_event)) as f64 / self.speed) as i64);
        due.saturating_sub(now)
    }

    /// The latest event time that is due now, when `first_event` was due at the first call.
    pub(crate) fn horizon(&mut self, first_event: i64, clock: &dyn Clock) -> i64 {
        if self.speed <= 0.0 {
            return i64::MAX;
        }
        let now = clock.now().get();
        let (first_event, first_clock) = *self.origin.get_or_insert((first_event, now));
        first_event.saturating_add(((now - first_clock) as f64 * self.speed) as i64)
    }

    /// Sleeps for `millis`, but not longer than the stop flag may go unseen.
    pub(crate) fn nap(millis: i64, clock: &dyn Clock) {
        clock.sleep(NAP.min(Duration::from_millis(millis.max(1) as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_events::LogTime;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Hand(AtomicI64);
    impl Clock for Hand {
        fn now(&self) -> LogTime {
            LogTime::new(self.0.load(Ordering::Relaxed))
        }
        fn sleep(&self, time: Duration) {
            self.0.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_hour_of_event_time_is_due_after_a_minute_at_speed_60() {
        let clock = Hand(AtomicI64::new(1_000));
        let mut pace = Pace::new(60.0);
        assert_eq!(pace.wait_millis(5_000_000, &clock), 0);
        assert_eq!(pace.wait_millis(5_000_000 + 3_600_000, &clock), 60_000);
        assert_eq!(pace.wait_millis(4_000_000, &clock).signum(), -1);
        Pace::nap(60_000, &clock);
        assert_eq!(pace.wait_millis(5_000_000 + 3_600_000, &clock), 59_950);
        assert_eq!(Pace::new(0.0).wait_millis(i64::MAX, &clock), 0);
    }
}
