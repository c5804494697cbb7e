//! What receivers get.

use crate::{
    server::{Reply, Server},
    support::{Clock, NOW, firing, notifier, raised, resolved, soon, statistics, until, with},
};
use sha2::{Digest, Sha256};
use sluice_events::{Alert, EventTime};
use std::time::Duration;

/// RFC 2104 by hand: what a receiver does that has no library for it.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_webhook_is_told_what_happens_in_order_and_can_verify_it() {
    let server = Server::start(|_, _| Reply::Status(200));
    let settings = format!(
        "external_url = 'https://sluice.example.com'\n\
         [receivers.team]\nkind = 'webhook'\nurl = '{}/alerts?team=1'\nsecret = 'between us'",
        server.url()
    );
    let notifier = notifier(&settings);
    for alert in [firing("a"), firing("a"), raised("a"), resolved("a"), resolved("b")] {
        notifier.tell(&alert);
    }
    assert_eq!(notifier.finish(soon()), []);
    let received = server.received();
    let events: Vec<_> = received.iter().map(|r| r.header("x-sluice-event").unwrap()).collect();
    assert_eq!(events, ["firing", "raised", "resolved"]);
    let keys: Vec<_> = received.iter().map(|r| r.header("x-sluice-delivery").unwrap()).collect();
    assert_eq!(keys, ["a:firing:1:warning", "a:firing:1:critical", "a:resolved:1"]);
    for request in &received {
        assert_eq!(request.path, "/alerts?team=1");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.header("user-agent").unwrap().starts_with("sluice/"));
        let timestamp = request.header("x-sluice-timestamp").unwrap();
        assert_eq!(timestamp, (NOW / 1000).to_string());
        let signed = [timestamp.as_bytes(), b".", &request.body].concat();
        let expected = format!("sha256={}", hmac(b"between us", &signed));
        assert_eq!(request.header("x-sluice-signature"), Some(expected.as_str()));
        assert_eq!(request.json()["links"]["page"], "https://sluice.example.com/alerts/a");
    }
}

#[test]
fn a_slack_channel_is_told_in_words() {
    let server = Server::start(|_, _| Reply::Full(200, "content-type: text/html", "ok".to_owned()));
    let settings = format!("[receivers.shop]\nkind = 'slack'\nurl = '{}/services/T0/B0/x'", server.url());
    let notifier = notifier(&settings);
    notifier.tell(&firing("a"));
    assert_eq!(notifier.finish(soon()), []);
    let message = server.received()[0].json();
    assert_eq!(server.received()[0].path, "/services/T0/B0/x");
    assert!(message["text"].as_str().unwrap().starts_with("🟠 revenue of sales"));
    assert_eq!(message["blocks"][0]["type"], "header");
}

#[test]
fn each_receiver_hears_what_it_asked_for() {
    let (grave, products) = (Server::start(|_, _| Reply::Status(200)), Server::start(|_, _| Reply::Status(200)));
    let settings = format!(
        "[receivers.grave]\nkind = 'webhook'\nurl = '{}'\nmin_severity = 'critical'\n\
         [receivers.products]\nkind = 'webhook'\nurl = '{}'\nmodels = ['products']",
        grave.url(),
        products.url()
    );
    let notifier = notifier(&settings);
    for id in ["a", "b"] {
        notifier.tell(&firing(id));
        notifier.tell(&Alert { model: "products".to_owned(), ..firing(&format!("p{id}")) });
    }
    notifier.tell(&raised("b"));
    assert_eq!(notifier.finish(soon()), []);
    let keys = |server: &Server| -> Vec<String> {
        server.received().iter().map(|r| r.header("x-sluice-delivery").unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&grave), ["b:firing:1:critical"]);
    assert_eq!(keys(&products), ["pa:firing:1:warning", "pb:firing:1:warning"]);
}

#[test]
fn what_an_earlier_process_told_is_not_told_again_but_its_end_is() {
    let server = Server::start(|_, _| Reply::Status(204));
    let notifier = notifier(&format!("[receivers.team]\nkind = 'webhook'\nurl = '{}'", server.url()));
    notifier.recall(&firing("a"));
    notifier.tell(&firing("a"));
    notifier.tell(&resolved("a"));
    until("the end is told", || statistics(&notifier).sent == 1);
    assert_eq!(server.received()[0].header("x-sluice-event"), Some("resolved"));
    assert_eq!(statistics(&notifier).last_success, Some(NOW));
}

#[test]
fn what_is_snoozed_is_told_when_the_snooze_is_over() {
    let server = Server::start(|_, _| Reply::Status(200));
    let clock = Clock::new();
    let settings = format!("[receivers.team]\nkind = 'webhook'\nurl = '{}'", server.url());
    let notifier = with(&settings, &clock, ());
    // By now its thread waits for whatever comes.
    std::thread::sleep(Duration::from_millis(50));
    notifier.tell(&Alert { snoozed_until: Some(EventTime::new(NOW + 50)), ..firing("a") });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.received().len(), 0, "its clock stands still");
    clock.set(NOW + 50);
    until("it is told", || statistics(&notifier).sent == 1);
}
