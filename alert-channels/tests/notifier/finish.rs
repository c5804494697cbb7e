//! How a notifier ends.

use crate::{
    server::{Reply, Server},
    support::{dead_url, firing, notifier, soon, statistics, until},
};
use sluice_alert_channels::Undelivered;
use std::time::{Duration, Instant};

#[test]
fn what_waits_is_told_before_the_end() {
    let server = Server::start(|_, _| {
        std::thread::sleep(Duration::from_millis(5));
        Reply::Status(200)
    });
    let notifier = notifier(&format!("[receivers.team]\nkind = 'webhook'\nurl = '{}'", server.url()));
    for n in 0..50 {
        notifier.tell(&firing(&n.to_string()));
    }
    assert_eq!(notifier.finish(soon()), []);
    assert_eq!(server.received().len(), 50);
}

#[test]
fn a_notice_that_waits_for_its_next_attempt_is_tried_at_once() {
    let server = Server::start(|before, _| Reply::Status(if before == 0 { 500 } else { 200 }));
    let settings = format!("[receivers.team]\nkind = 'webhook'\nurl = '{}'\nbackoff = '1h'", server.url());
    let notifier = notifier(&settings);
    notifier.tell(&firing("a"));
    notifier.tell(&firing("b"));
    until("the first attempt failed", || statistics(&notifier).failed_attempts == 1);
    let began = Instant::now();
    assert_eq!(notifier.finish(soon()), []);
    assert!(began.elapsed() < Duration::from_secs(20), "a minute's wait is not waited for");
    assert_eq!(server.received().len(), 3);
}

#[test]
fn what_cannot_be_told_is_counted_and_the_deadline_kept() {
    let silent = Server::start(|_, _| Reply::Silence);
    let settings = format!(
        "[receivers.dead]\nkind = 'webhook'\nurl = '{}'\n[receivers.silent]\nkind = 'webhook'\nurl = '{}'\ntimeout = '20s'",
        dead_url(),
        silent.url()
    );
    let notifier = notifier(&settings);
    for n in 0..5 {
        notifier.tell(&firing(&n.to_string()));
    }
    until("both are tried", || notifier.statistics()[0].failed_attempts > 0 && !silent.received().is_empty());
    let began = Instant::now();
    let left = notifier.finish(Instant::now() + Duration::from_millis(300));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: a request of 20 s is not waited for");
    let undelivered = |receiver: &str| Undelivered { receiver: receiver.to_owned(), notices: 5 };
    assert_eq!(left, [undelivered("dead"), undelivered("silent")]);
}

#[test]
fn without_receivers_there_is_nothing_to_do() {
    let notifier = notifier("");
    notifier.tell(&firing("a"));
    notifier.recall(&firing("a"));
    assert_eq!((notifier.statistics(), notifier.finish(soon())), (vec![], vec![]));
}
