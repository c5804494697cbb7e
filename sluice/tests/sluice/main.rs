//! The program from outside: its commands on real input, its crashes, its endpoints.
//!
//! Input that is not in the repository is found through the environment: `SLUICE_TEST_DATA` (a folder with
//! `rees46/events.ndjson.gz` and `rees46/expected/`), `SLUICE_TEST_KAFKA`, `SLUICE_TEST_S3` with `AWS_ACCESS_KEY_ID`
//! and `AWS_SECRET_ACCESS_KEY`, `SLUICE_TEST_MONGO_URI`, `SLUICE_TEST_POSTGRES` (a URL). A test that finds nothing says SKIPPED on stderr.

mod bad_records;
mod command_line;
mod crash;
mod dlq;
mod engine;
mod feeds;
mod gold;
mod json_topic;
mod lake;
mod live_run;
mod load;
mod models;
mod publish;
mod quality;
mod real_input;
mod recovery;
mod scale_out;
mod sql;
mod support;
