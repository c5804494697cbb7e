//! Tells of alerts: one line in the log, counters, and the receivers of the settings.

use crate::{
    WrongUse,
    pipeline::{Pipeline, now_millis},
};
use anyhow::{Context, Result};
use sluice_alert_channels::{Notifier, ReceiverStatistics};
use sluice_events::{Alert, AlertState, EventTime, alert_text, score_meaning};
use sluice_sinks::{
    Metric, Metrics,
    kpi_store::{AlertQuery, KpiStore},
};
use sluice_stream_processor::AlertUpdate;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked which series are snoozed.
const SNOOZES_INTERVAL: Duration = Duration::from_secs(2);
/// How long receivers may take for what waits when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// More alerts than fire at a time.
const OPEN_MAX: usize = 10_000;

/// Shared by the merge loops of a process.
pub(crate) struct Announcer {
    notifier: Mutex<Option<Notifier>>,
    metrics: Arc<Metrics>,
    store: Arc<dyn KpiStore>,
    snoozes: Mutex<(Option<Instant>, BTreeMap<String, EventTime>)>,
    counted: Mutex<BTreeMap<String, ReceiverStatistics>>,
}

impl Announcer {
    /// Reads the receivers of the settings. What the store says is firing has been told by an earlier process.
    pub fn start(pipeline: &Pipeline, store: &Arc<dyn KpiStore>) -> Result<Self> {
        let receivers = pipeline
            .config
            .alerts
            .open(|name| std::env::var(name).ok())
            .map_err(|error| WrongUse(error.to_string()))?;
        let notifier = match receivers.is_empty() {
            true => None,
            false => Some(Notifier::start(receivers, now_millis, ()).context("start the receivers of alerts")?),
        };
        if let Some(notifier) = &notifier {
            let states = vec![AlertState::Firing, AlertState::Acknowledged];
            let query = AlertQuery { states, limit: OPEN_MAX, ..AlertQuery::default() };
            store.alerts(&query)?.iter().for_each(|alert| notifier.recall(alert));
        }
        Ok(Self {
            notifier: Mutex::new(notifier),
            metrics: pipeline.metrics.clone(),
            store: store.clone(),
            snoozes: Mutex::default(),
            counted: Mutex::default(),
        })
    }

    /// Tells of what is news; a receiver that is away waits behind its own thread.
    pub fn tell(&self, update: AlertUpdate) {
        let AlertUpdate { mut alert, is_news } = update;
        alert.snoozed_until = self.snoozed_until(&alert.fingerprint);
        if is_news {
            self.log(&alert);
        }
        if let Some(notifier) = &*self.notifier.lock().unwrap_or_else(PoisonError::into_inner) {
            notifier.tell(&alert);
        }
    }

    fn log(&self, alert: &Alert) {
        let severity = alert.severity.name();
        let Alert { id, model, measure, score, .. } = alert;
        match alert.state {
            AlertState::Firing => {
                self.metrics.add(Metric::Alerts, &[model, severity], 1);
                let meaning = score_meaning(alert);
                tracing::warn!(alert = id, model, measure, severity, score, "ALERT {}; {meaning}", alert_text(alert));
            }
            // Whose beginning another alert explained, its end is no news.
            AlertState::Resolved if alert.parent.is_some() => {}
            AlertState::Resolved => {
                tracing::info!(alert = id, model, measure, severity, "RESOLVED {}", alert_text(alert));
            }
            AlertState::Suppressed => {
                let parent = alert.parent.as_deref().unwrap_or_default();
                tracing::info!(alert = id, model, measure, severity, parent, "EXPLAINED {}", alert_text(alert));
            }
            AlertState::Acknowledged => {}
        }
    }

    fn snoozed_until(&self, fingerprint: &str) -> Option<EventTime> {
        let mut snoozes = self.snoozes.lock().unwrap_or_else(PoisonError::into_inner);
        if snoozes.0.is_none_or(|looked| looked.elapsed() >= SNOOZES_INTERVAL) {
            snoozes.0 = Some(Instant::now());
            match self.store.snoozes() {
                Ok(now) => snoozes.1 = now,
                Err(error) => tracing::warn!(%error, "it cannot be seen which alerts are snoozed"),
            }
        }
        snoozes.1.get(fingerprint).copied()
    }

    /// Shows in the metrics how the receivers do.
    pub fn report(&self) {
        let notifier = self.notifier.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(statistics) = notifier.as_ref().map(Notifier::statistics) else { return };
        drop(notifier);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for now in statistics {
            let before = counted.get(&now.receiver);
            let grown = |count: fn(&ReceiverStatistics) -> u64| count(&now) - before.map_or(0, count);
            let receiver = &*now.receiver;
            self.metrics.add(Metric::AlertsSent, &[receiver], grown(|s| s.sent));
            self.metrics.add(Metric::AlertAttemptsFailed, &[receiver], grown(|s| s.failed_attempts));
            self.metrics.add(Metric::AlertsDropped, &[receiver, "backlog_full"], grown(|s| s.dropped));
            self.metrics.add(Metric::AlertsDropped, &[receiver, "refused"], grown(|s| s.refused));
            self.metrics.add(Metric::AlertsDropped, &[receiver, "gave_up"], grown(|s| s.given_up));
            self.metrics.set(Metric::AlertBacklog, &[receiver], now.queued as f64);
            counted.insert(now.receiver.clone(), now);
        }
    }

    /// Delivers what waits, for a moment.
    pub fn finish(&self) {
        let Some(notifier) = self.notifier.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        for undelivered in notifier.finish(Instant::now() + FAREWELL) {
            let (receiver, notices) = (undelivered.receiver, undelivered.notices);
            tracing::warn!(receiver, notices, "a receiver of alerts was not told of all before the end");
        }
    }
}
