//! Whole-system tests from one seed: crashes, reordering, duplicates.
//!
//! In: a seed. Out: a verdict, and the seed when it is bad.
//! Never: touches a disk, a network or a clock.
