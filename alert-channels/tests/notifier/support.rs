//! What the tests here share.

use crate::sample;
use sluice_alert_channels::{AlertsConfig, Hooks, Notifier, ReceiverStatistics};
use sluice_events::{Alert, AlertState, Severity};
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

/// Longer than anything takes on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// 2024-03-01T10:10:00Z.
pub const NOW: i64 = 1_709_287_800_000;

/// A clock that a test sets.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }

    pub fn read(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// One that tells the receivers of these settings.
pub fn notifier(settings: &str) -> Notifier {
    with(settings, &Clock::new(), ())
}

pub fn with(settings: &str, clock: &Clock, hooks: impl Hooks) -> Notifier {
    let config: AlertsConfig = toml::from_str(settings).expect("the settings are TOML");
    let receivers = config.open(|_| None).expect("the settings are right");
    let clock = clock.clone();
    Notifier::start(receivers, move || clock.read(), hooks).expect("there are threads")
}

pub fn firing(id: &str) -> Alert {
    sample::alert(id)
}

pub fn raised(id: &str) -> Alert {
    Alert { severity: Severity::Critical, ..firing(id) }
}

pub fn resolved(id: &str) -> Alert {
    Alert { state: AlertState::Resolved, ..firing(id) }
}

/// The only receiver's.
pub fn statistics(notifier: &Notifier) -> ReceiverStatistics {
    let mut all = notifier.statistics();
    assert_eq!(all.len(), 1);
    let s = all.remove(0);
    assert_eq!(
        s.taken,
        s.sent + s.refused + s.given_up + s.dropped + s.queued as u64,
        "each notice has one way out: {s:?}"
    );
    s
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// An address where nobody listens.
pub fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    format!("http://{address}/hook")
}
