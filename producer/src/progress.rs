//! What a person sees while records flow.

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

/// A log line comes this often when nobody watches a terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How far a producer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records given to the log, or found there already.
    pub records: u64,
    /// Bytes of input read (replay, as stored on disk) or of values written (simulate).
    pub bytes: u64,
}

/// Is told how far a producer has come, several times a second.
pub trait Progress: Send + Sync {
    /// So far, in total.
    fn report(&self, sent: Sent);

    /// Nothing more will come.
    fn finish(&self) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _: Sent) {}
}

/// A progress bar on a terminal; elsewhere a log line every 10 s.
pub struct StderrProgress {
    bar: ProgressBar,
    what: &'static str,
    /// When the last log line was written, and what it said. None on a terminal.
    logged: Option<Mutex<(Instant, Sent)>>,
}

impl StderrProgress {
    /// `what` is done, such as `"replay"`; `total_bytes` when the end is known.
    pub fn new(what: &'static str, total_bytes: Option<u64>) -> Self {
        let watched = stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr_with_hz(5));
        let style = if total_bytes.is_some() {
            "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}"
        } else {
            "{prefix} {spinner} {elapsed} {bytes} {msg}"
        };
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant that parses"));
        bar.set_prefix(what);
        let logged = (!watched).then(|| Mutex::new((Instant::now(), Sent::default())));
        Self { bar, what, logged }
    }
}

impl Progress for StderrProgress {
    fn report(&self, sent: Sent) {
        let Some(logged) = &self.logged else {
            let rate = sent.records as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{} records, {}/s", HumanCount(sent.records), HumanCount(rate as u64)));
            self.bar.set_position(sent.bytes);
            return;
        };
        let mut last = logged.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let since = last.0.elapsed();
        if since >= LOG_EVERY {
            let rate = sent.records.saturating_sub(last.1.records) as f64 / since.as_secs_f64();
            tracing::info!(
                what = self.what,
                records = sent.records,
                bytes = sent.bytes,
                records_per_second = rate as u64,
                "progress"
            );
            *last = (Instant::now(), sent);
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
