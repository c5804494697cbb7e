//! Learns from what customers ordered: which segments there are, and who is about to churn.
//!
//! In: numbers a customer (recency, frequency, monetary; churn features), labels of past snapshots, seeds.
//! Out: segments with ids that last between runs, churn probabilities, and a model card that says how good they are.
//! Never: reads a clock, draws an unseeded number, touches a network or a disk, looks past the cutoff of a snapshot.

mod card;
mod churn;
mod features;
mod measure;
mod segments;

pub use card::{DataWindow, ModelCard, SegmentsCard, SnapshotCard};
pub use churn::{Candidate, ChurnModel, Evaluation, Method, Snapshot, evaluate, fit};
pub use features::{Features, MlError};
pub use measure::{Measures, auc, brier, lift_10};
pub use segments::{Rfm, Segment, Segmentation, segment};
