//! A thread that does one deed again and again until it is dropped.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ends its thread when dropped, and waits for that.
pub(super) struct Rhythm {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rhythm {
    /// Does `deed` every `period`, the first time after one period.
    pub fn start(name: &str, period: Duration, mut deed: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(period) {
                deed();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Rhythm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a background thread of the event log panicked");
        }
    }
}
