//! Turns silver into the answers of business questions, on a schedule.
//!
//! In: the tables of silver and live. Out: the tables of gold.
//! Never: reads the stream.
