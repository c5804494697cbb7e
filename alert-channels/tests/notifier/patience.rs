//! Receivers that do not take what they are told.

use crate::{
    server::{Reply, Server},
    support::{Clock, dead_url, firing, notifier, raised, resolved, statistics, until, with},
};
use sluice_alert_channels::{Attempt, Hooks, Outcome};
use std::{
    sync::mpsc::{Sender, channel},
    time::{Duration, Instant},
};

struct Outcomes(Sender<(Outcome, Duration)>);

impl Hooks for Outcomes {
    fn attempted(&self, attempt: &Attempt<'_>) {
        let _ = self.0.send((attempt.outcome, attempt.took));
    }
}

fn webhook(url: &str, more: &str) -> String {
    format!("[receivers.team]\nkind = 'webhook'\nurl = '{url}'\nbackoff = '5ms'\n{more}")
}

#[test]
fn after_an_error_it_is_tried_again_with_the_same_key() {
    let server = Server::start(|before, _| Reply::Status(if before < 2 { 500 } else { 200 }));
    let (outcomes, seen) = channel();
    let notifier = with(&webhook(&server.url(), ""), &Clock::new(), Outcomes(outcomes));
    notifier.tell(&firing("a"));
    until("it is told", || statistics(&notifier).sent == 1);
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|r| r.header("x-sluice-delivery") == Some("a:firing:1:warning")));
    assert!(received.iter().all(|r| r.body == received[0].body));
    assert_eq!(statistics(&notifier).failed_attempts, 2);
    drop(notifier);
    let outcomes: Vec<Outcome> = seen.iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Accepted]);
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let server = Server::start(|before, _| match before {
        0 => Reply::Full(429, "retry-after: 1", "slow down".to_owned()),
        _ => Reply::Status(200),
    });
    let notifier = notifier(&webhook(&server.url(), ""));
    notifier.tell(&firing("a"));
    until("it is told", || statistics(&notifier).sent == 1);
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_millis(950), "a wait of 5 ms was not asked for");
}

#[test]
fn what_is_refused_is_not_tried_again_and_does_not_stop_the_rest() {
    for status in [400, 404, 410, 302] {
        let server = Server::start(move |before, _| match before {
            0 => Reply::Full(status, "location: http://127.0.0.1:1/", "invalid_payload".to_owned()),
            _ => Reply::Status(200),
        });
        let notifier = notifier(&webhook(&server.url(), ""));
        notifier.tell(&firing("a"));
        notifier.tell(&firing("b"));
        until("the second is told", || statistics(&notifier).sent == 1);
        let statistics = statistics(&notifier);
        assert_eq!((statistics.refused, statistics.failed_attempts, server.received().len()), (1, 0, 2), "{status}");
    }
}

#[test]
fn what_was_given_up_is_told_with_the_next_state() {
    let server = Server::start(|before, _| Reply::Status(if before < 3 { 503 } else { 200 }));
    let notifier = notifier(&webhook(&server.url(), "retries = 2"));
    notifier.tell(&firing("a"));
    until("it is given up", || statistics(&notifier).given_up == 1);
    assert_eq!(statistics(&notifier).open, 0);
    notifier.tell(&firing("a"));
    until("it is told", || statistics(&notifier).sent == 1);
    assert_eq!((server.received().len(), statistics(&notifier).failed_attempts), (4, 3));
}

/// A thousand alerts, each beginning and ending, for a receiver that takes none.
fn overwhelm(url: &str, more: &str) {
    let notifier = notifier(&webhook(url, &format!("queue = 10\n{more}")));
    let began = Instant::now();
    for n in 0..1000 {
        notifier.tell(&firing(&n.to_string()));
        notifier.tell(&resolved(&n.to_string()));
        assert!(statistics(&notifier).queued <= 11, "ten wait and one is tried");
    }
    // Two thousand of them: were one to wait for the receiver, it would be more than this.
    assert!(began.elapsed() < Duration::from_secs(5), "telling took {:?}", began.elapsed());
    until("it was tried in vain", || statistics(&notifier).failed_attempts >= 1);
    let statistics = statistics(&notifier);
    assert_eq!(statistics.sent, 0);
    assert!(statistics.taken >= 1000 && statistics.dropped >= 900, "{statistics:?}");
    let before = Instant::now();
    let left = notifier.finish(Instant::now() + Duration::from_millis(100));
    assert!(left.iter().map(|left| left.notices).sum::<usize>() <= 11, "{left:?}");
    assert!(before.elapsed() < Duration::from_secs(5), "the end took {:?}", before.elapsed());
}

#[test]
fn nobody_waits_for_a_receiver_that_is_not_there() {
    overwhelm(&dead_url(), "retries = 1");
}

#[test]
fn nobody_waits_for_a_receiver_that_never_answers() {
    let server = Server::start(|_, _| Reply::Silence);
    overwhelm(&server.url(), "timeout = '100ms'");
}

#[test]
fn a_silent_receiver_is_given_its_time_and_not_more() {
    let server = Server::start(|_, _| Reply::Silence);
    let (outcomes, seen) = channel();
    let notifier = with(&webhook(&server.url(), "timeout = '80ms'\nretries = 0"), &Clock::new(), Outcomes(outcomes));
    notifier.tell(&firing("a"));
    until("it is given up", || statistics(&notifier).given_up == 1);
    let (outcome, took) = seen.recv().unwrap();
    assert_eq!(outcome, Outcome::Failed);
    assert!(took >= Duration::from_millis(75) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn one_that_is_silent_does_not_hold_up_another() {
    let (silent, quick) = (Server::start(|_, _| Reply::Silence), Server::start(|_, _| Reply::Status(200)));
    let settings = format!(
        "[receivers.silent]\nkind = 'slack'\nurl = '{}'\n[receivers.quick]\nkind = 'slack'\nurl = '{}'",
        silent.url(),
        quick.url()
    );
    let notifier = notifier(&settings);
    for n in 0..20 {
        notifier.tell(&firing(&n.to_string()));
    }
    until("the quick one is told", || notifier.statistics().iter().any(|s| s.receiver == "quick" && s.sent == 20));
    let silent = notifier.statistics().into_iter().find(|s| s.receiver == "silent").unwrap();
    assert_eq!((silent.sent, silent.queued), (0, 20));
}

#[test]
fn a_newer_state_takes_the_place_of_an_older_one_when_the_backlog_is_full() {
    let server = Server::start(|_, _| Reply::Silence);
    let notifier = notifier(&webhook(&server.url(), "queue = 2\ntimeout = '20s'"));
    notifier.tell(&firing("tried"));
    until("it is tried", || server.received().len() == 1);
    for alert in [firing("a"), firing("b"), raised("b"), resolved("b")] {
        notifier.tell(&alert);
    }
    let before = statistics(&notifier);
    assert_eq!((before.dropped, before.queued), (2, 3));
    notifier.tell(&firing("c"));
    let after = statistics(&notifier);
    assert_eq!((after.dropped, after.queued), (3, 3));
    // The beginning of `a` was dropped, and is told when there is room: it is as if it had not been decided.
    assert_eq!(after.open, 2, "tried and c");
    drop(notifier);
}
