//! A notifier and receivers on this machine: what they get, and what becomes of it when they do not take it.

mod alertmanager;
mod deliver;
mod finish;
mod patience;
#[path = "../../src/sample.rs"]
mod sample;
mod server;
mod support;
