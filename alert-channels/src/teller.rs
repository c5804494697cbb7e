//! The thread of one receiver: takes what waits, sends it, and tries again.

use crate::{
    Attempt, Hooks, Outcome,
    delivery::{Answer, Post},
    links::Links,
    notifier::{Clock, Line, State},
    receivers::Receiver,
    request::Request,
    retry::{Verdict, verdict, wait},
    telling::{Event, Notice},
};
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// Alerts of one request that tells an Alertmanager what goes on.
const RESENT_TOGETHER: usize = 500;
/// How long a thread sleeps at most that waits for a snooze to end: the clock it is given may not run as ours does.
const REST_MAX: Duration = Duration::from_secs(1);

/// What a thread has to do next.
enum Task {
    Tell(Notice),
    Resend(Vec<Notice>),
}

/// The work of the thread.
pub(crate) struct Teller {
    pub line: Arc<Line>,
    pub receiver: Receiver,
    pub post: Post,
    pub links: Links,
    pub now: Clock,
    pub hooks: Arc<dyn Hooks>,
}

impl Teller {
    /// Until the notifier ends.
    pub fn run(self) {
        // Said even when a hook panics: nobody waits then for a thread that is gone.
        let _ended = Ended(self.line.clone());
        while let Some(task) = self.next() {
            match task {
                Task::Tell(notice) => self.tell(notice),
                Task::Resend(notices) => self.resend(&notices),
            }
        }
    }

    /// Waits for something to do; nothing: the end.
    fn next(&self) -> Option<Task> {
        let mut state = self.line.state();
        loop {
            let now = (self.now)();
            for notice in state.telling.due(now) {
                state.take(notice, &self.line);
            }
            match state.deadline {
                Some(deadline) if Instant::now() >= deadline => return None,
                Some(_) => {}
                None => {
                    if let Some(notices) = self.what_goes_on(&mut state, now) {
                        return Some(Task::Resend(notices));
                    }
                }
            }
            if let Some(notice) = state.backlog.pop() {
                state.is_sending = true;
                return Some(Task::Tell(notice));
            }
            if state.deadline.is_some() {
                return None;
            }
            let resend = state.next_resend.map(|at| at.saturating_duration_since(Instant::now()));
            let due = state.telling.next_due().map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
            state = match [resend, due.map(|rest| rest.min(REST_MAX))].into_iter().flatten().min() {
                Some(rest) => {
                    let changed = self.line.changed.wait_timeout(state, rest);
                    changed.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.line.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What is to be told again now.
    fn what_goes_on(&self, state: &mut State, now: i64) -> Option<Vec<Notice>> {
        let (interval, at) = (self.receiver.channel.resend_interval()?, state.next_resend?);
        if Instant::now() < at {
            return None;
        }
        state.next_resend = Some(Instant::now() + interval);
        Some(state.telling.alive(now)).filter(|alive| !alive.is_empty())
    }

    /// Tells one thing, as often as it takes and the settings allow.
    fn tell(&self, notice: Notice) {
        let mut failed = 0;
        loop {
            let Some(timeout) = self.time_left() else { return self.put_back(notice) };
            let request = self.receiver.channel.request(&notice, &self.links, (self.now)());
            let (outcome, asked) = self.attempt(&request, timeout, Some(&notice));
            if outcome != Outcome::Failed {
                return;
            }
            failed += 1;
            if failed > self.receiver.retries {
                return self.give_up(&notice, failed);
            }
            if !self.rest(wait(self.receiver.backoff, failed, asked)) {
                return self.put_back(notice);
            }
        }
    }

    /// Tells again what goes on. What fails is not tried again: the next time is soon enough.
    fn resend(&self, notices: &[Notice]) {
        let Some(interval) = self.receiver.channel.resend_interval() else { return };
        for together in notices.chunks(RESENT_TOGETHER) {
            let Some(timeout) = self.time_left() else { return };
            let request = crate::alertmanager::request(together, &self.links, (self.now)(), interval);
            if self.attempt(&request, timeout, None).0 == Outcome::Failed {
                return;
            }
        }
    }

    /// Sends once, counts and logs. With a failure: for how long the receiver asked to be left alone.
    fn attempt(&self, request: &Request, timeout: Duration, notice: Option<&Notice>) -> (Outcome, Duration) {
        let began = Instant::now();
        let answer = self.post.send(request, timeout);
        let (took, now) = (began.elapsed(), (self.now)());
        let (outcome, asked) = match &answer {
            Answer::Nothing(_) => (Outcome::Failed, Duration::ZERO),
            Answer::Status { status, retry_after, .. } => match verdict(*status, retry_after.as_deref(), now) {
                Verdict::Accepted => (Outcome::Accepted, Duration::ZERO),
                Verdict::Refused => (Outcome::Refused, Duration::ZERO),
                Verdict::Later(asked) => (Outcome::Failed, asked),
            },
        };
        self.count(outcome, notice.is_some(), now);
        self.log(outcome, &answer, notice);
        let (receiver, kind, is_resend) = (self.receiver.name.as_str(), self.receiver.kind, notice.is_none());
        self.hooks.attempted(&Attempt { receiver, kind, outcome, took, is_resend });
        (outcome, asked)
    }

    fn count(&self, outcome: Outcome, is_notice: bool, now: i64) {
        let mut state = self.line.state();
        // With the count, so that the sum of all ways out is right at any moment.
        state.is_sending &= !is_notice || outcome == Outcome::Failed;
        let counts = &mut state.counts;
        match outcome {
            Outcome::Accepted => {
                counts.last_success = Some(now);
                if is_notice { counts.sent += 1 } else { counts.resent += 1 }
            }
            Outcome::Refused if is_notice => counts.refused += 1,
            Outcome::Refused | Outcome::Failed => counts.failed_attempts += 1,
        }
    }

    /// Once for each kind of trouble, until the receiver accepts something.
    fn log(&self, outcome: Outcome, answer: &Answer, notice: Option<&Notice>) {
        let (receiver, address) = (&self.receiver.name, &self.receiver.address);
        let alert = notice.map(|notice| notice.alert.id.as_str());
        let mut state = self.line.state();
        let has_room = state.backlog.len() == 0;
        let trouble = &mut state.trouble;
        match (outcome, answer) {
            (Outcome::Accepted, _) => {
                let was_in_trouble = trouble.is_failing || !trouble.refused.is_empty();
                trouble.is_failing = false;
                trouble.refused.clear();
                trouble.is_dropping &= !has_room;
                if was_in_trouble {
                    tracing::info!(receiver, %address, "a receiver of alerts accepts them again");
                }
            }
            (Outcome::Refused, Answer::Status { status, words, .. }) if trouble.refused.insert(*status) => {
                tracing::error!(receiver, %address, status, words, alert, "a receiver refuses an alert; it is not tried again");
            }
            (Outcome::Failed, _) if !std::mem::replace(&mut trouble.is_failing, true) => match answer {
                Answer::Status { status, words, .. } => {
                    tracing::warn!(receiver, %address, status, words, alert, "a receiver does not take an alert now");
                }
                Answer::Nothing(reason) => {
                    tracing::warn!(receiver, %address, reason, alert, "a receiver of alerts does not answer");
                }
            },
            _ => {}
        }
    }

    /// How long an attempt may take; nothing when the time to finish is over.
    fn time_left(&self) -> Option<Duration> {
        let Some(deadline) = self.line.state().deadline else { return Some(self.receiver.timeout) };
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(self.receiver.timeout))
    }

    /// Waits before the next attempt, and says whether there is to be one. When the end begins meanwhile, it is at once.
    fn rest(&self, rest: Duration) -> bool {
        let until = Instant::now() + rest;
        let mut state = self.line.state();
        let was_ending = state.deadline.is_some();
        loop {
            let now = Instant::now();
            match state.deadline {
                Some(deadline) if now >= deadline || (was_ending && until >= deadline) => return false,
                Some(_) if !was_ending => return true,
                _ if now >= until => return true,
                _ => {}
            }
            let changed = self.line.changed.wait_timeout(state, until.saturating_duration_since(now));
            state = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_up(&self, notice: &Notice, attempts: u32) {
        let mut state = self.line.state();
        state.is_sending = false;
        state.counts.given_up += 1;
        // Else a newer state of it waits, and that one is told.
        if !state.backlog.has(&notice.alert.id) {
            state.untold(notice);
        }
        drop(state);
        let (receiver, address, alert) = (&self.receiver.name, &self.receiver.address, &notice.alert.id);
        let event = notice.event.name();
        match notice.event {
            Event::Firing | Event::Raised => {
                tracing::error!(receiver, %address, alert, event, attempts, "gave up telling a receiver of an alert; its next state is tried");
            }
            Event::Resolved => {
                tracing::error!(receiver, %address, alert, event, attempts, "gave up telling a receiver that an alert is over");
            }
        }
    }

    fn put_back(&self, notice: Notice) {
        let mut state = self.line.state();
        state.is_sending = false;
        state.backlog.put_back(notice);
    }
}

struct Ended(Arc<Line>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.changed.notify_all();
    }
}
