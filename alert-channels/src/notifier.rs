//! The threads that tell: one for each receiver, so that none waits for another.

use crate::{
    Kind, ReceiverStatistics, Receivers,
    backlog::{Backlog, Dropped},
    delivery::Post,
    receivers::Receiver,
    teller::Teller,
    telling::{Notice, Telling},
};
use sluice_events::Alert;
use std::{
    collections::HashSet,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What whoever started a notifier wants to hear of, on the notifier's threads: what takes long delays the next notice.
pub trait Hooks: Send + Sync + 'static {
    /// An attempt was made.
    fn attempted(&self, attempt: &Attempt<'_>);
}

/// Hears nothing.
impl Hooks for () {
    fn attempted(&self, _: &Attempt<'_>) {}
}

/// One request to a receiver, made.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// The receiver's name.
    pub receiver: &'a str,
    /// What it understands.
    pub kind: Kind,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// Whether it told again what goes on, and nothing new.
    pub is_resend: bool,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The receiver took it.
    Accepted,
    /// The receiver will not have it.
    Refused,
    /// No answer, or one that says: later.
    Failed,
}

impl Outcome {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What a receiver was not told when the notifier ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The receiver's name.
    pub receiver: String,
    /// Notices that waited.
    pub notices: usize,
}

/// Tells all receivers. Dropped, it ends its threads without telling what waits; [`Notifier::finish`] tells that first.
pub struct Notifier {
    lines: Vec<Arc<Line>>,
    threads: Vec<JoinHandle<()>>,
    now: Clock,
}

pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a caller and the thread of a receiver share. Nobody holds it while waiting for a network.
pub(crate) struct Line {
    pub name: String,
    pub kind: Kind,
    pub state: Mutex<State>,
    pub changed: Condvar,
}

pub(crate) struct State {
    pub telling: Telling,
    pub backlog: Backlog,
    pub is_sending: bool,
    pub next_resend: Option<Instant>,
    /// Set once: deliver until then, and end.
    pub deadline: Option<Instant>,
    pub has_ended: bool,
    pub counts: Counts,
    pub trouble: Trouble,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub taken: u64,
    pub sent: u64,
    pub refused: u64,
    pub given_up: u64,
    pub dropped: u64,
    pub failed_attempts: u64,
    pub resent: u64,
    pub last_success: Option<i64>,
}

/// What has been logged already, so that a dead receiver does not fill the log.
#[derive(Default)]
pub(crate) struct Trouble {
    pub is_failing: bool,
    pub is_dropping: bool,
    pub refused: HashSet<u16>,
}

impl Notifier {
    /// Starts a thread for each receiver. `now` is the clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        receivers: Receivers,
        now: impl Fn() -> i64 + Send + Sync + 'static,
        hooks: impl Hooks,
    ) -> io::Result<Self> {
        let now: Clock = Arc::new(now);
        let hooks: Arc<dyn Hooks> = Arc::new(hooks);
        let mut notifier = Self { lines: Vec::new(), threads: Vec::new(), now: now.clone() };
        for receiver in receivers.receivers {
            let line = Arc::new(Line::new(&receiver));
            let (links, now, hooks) = (receivers.links.clone(), now.clone(), hooks.clone());
            let name = format!("alerts-{}", receiver.name);
            let teller = Teller { line: line.clone(), post: Post::to(&receiver), receiver, links, now, hooks };
            notifier.threads.push(std::thread::Builder::new().name(name).spawn(move || teller.run())?);
            notifier.lines.push(line);
        }
        Ok(notifier)
    }

    /// Takes the newest state of an alert, and tells whoever is to be told. Give it every state, in order, of alerts that are
    /// published: it picks what is worth telling. Never waits for a receiver, and never fails.
    pub fn tell(&self, alert: &Alert) {
        if self.lines.is_empty() {
            return;
        }
        let (alert, now) = (Arc::new(alert.clone()), (self.now)());
        for line in &self.lines {
            let mut state = line.state();
            if let Some(notice) = state.telling.decide(&alert, now) {
                state.take(notice, line);
            }
            // Without a notice too: there may be a new snooze to wait for.
            line.changed.notify_all();
        }
    }

    /// Takes an alert as told that an earlier process told: its end is told, and it is not told anew. For what is firing in
    /// the store when a process starts, before the first [`Notifier::tell`].
    pub fn recall(&self, alert: &Alert) {
        if self.lines.is_empty() {
            return;
        }
        let alert = Arc::new(alert.clone());
        for line in &self.lines {
            line.state().telling.recall(&alert);
        }
    }

    /// How each receiver does, by name.
    pub fn statistics(&self) -> Vec<ReceiverStatistics> {
        self.lines.iter().map(|line| line.statistics()).collect()
    }

    /// Tells what waits, until the deadline; then says what remained. What has to be tried again is tried at once, and then
    /// with the usual waits. A request that hangs is not waited for longer.
    pub fn finish(mut self, deadline: Instant) -> Vec<Undelivered> {
        self.end(deadline);
        let mut undelivered = Vec::new();
        for (line, thread) in self.lines.iter().zip(self.threads.drain(..)) {
            let mut state = line.state();
            while !state.has_ended {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = line.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (has_ended, notices) = (state.has_ended, state.waiting());
            drop(state);
            if has_ended && thread.join().is_err() {
                tracing::error!(receiver = line.name, "the thread that tells a receiver of alerts panicked");
            }
            if notices > 0 {
                undelivered.push(Undelivered { receiver: line.name.clone(), notices });
            }
        }
        undelivered
    }

    fn end(&self, deadline: Instant) {
        for line in &self.lines {
            line.state().deadline.get_or_insert(deadline);
            line.changed.notify_all();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

impl Line {
    fn new(receiver: &Receiver) -> Self {
        let state = State {
            telling: Telling::new(receiver.min_severity, receiver.models.clone()),
            backlog: Backlog::new(receiver.queue),
            is_sending: false,
            next_resend: receiver.channel.resend_interval().map(|interval| Instant::now() + interval),
            deadline: None,
            has_ended: false,
            counts: Counts::default(),
            trouble: Trouble::default(),
        };
        Self { name: receiver.name.clone(), kind: receiver.kind, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statistics(&self) -> ReceiverStatistics {
        let state = self.state();
        let Counts { taken, sent, refused, given_up, dropped, failed_attempts, resent, last_success } = state.counts;
        ReceiverStatistics {
            receiver: self.name.clone(),
            kind: self.kind,
            taken,
            sent,
            refused,
            given_up,
            dropped,
            failed_attempts,
            resent,
            queued: state.waiting(),
            open: state.telling.open(),
            forgotten: state.telling.forgotten(),
            last_success,
        }
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.backlog.len() + usize::from(self.is_sending)
    }

    /// Where what goes on is told again anyway, nothing needs to be taken back.
    pub fn untold(&mut self, notice: &Notice) {
        if self.next_resend.is_none() {
            self.telling.untold(notice);
        }
    }

    /// Puts a notice into the backlog, and sees to what has to make room.
    pub fn take(&mut self, notice: Notice, line: &Line) {
        self.counts.taken += 1;
        let Some(dropped) = self.backlog.push(notice) else { return };
        self.counts.dropped += 1;
        if let Dropped::Oldest(notice) = dropped {
            self.untold(&notice);
        }
        if !std::mem::replace(&mut self.trouble.is_dropping, true) {
            let (receiver, queue) = (&line.name, self.backlog.len());
            tracing::error!(receiver, queue, "alerts wait for a receiver and are dropped: it does not keep up");
        }
    }
}
