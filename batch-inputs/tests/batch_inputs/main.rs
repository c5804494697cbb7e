//! The room from outside: whole files in, tables and figures out.
//!
//! Real input is found through the environment: `SLUICE_TEST_DATA`, a folder with `cdnow/`. Without it that test is skipped
//! and says so.

mod dirty_files;
mod mutations;
mod real_input;
mod support;
