//! The clock, as an argument.

use sluice_events::LogTime;
use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Says what time it is and waits. A test passes one that it advances itself.
pub trait Clock: Send + Sync {
    /// Now, in UTC milliseconds.
    fn now(&self) -> LogTime;

    /// Waits that long.
    fn sleep(&self, time: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> LogTime {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogTime::new(since_1970.as_millis() as i64)
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}
