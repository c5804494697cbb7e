//! Brings events into the event log: from a simulated shop or from recorded files.
//!
//! In: a seed and knobs, a scenario, NDJSON and CSV files, a clock, a stop flag.
//! Out: records in the topics `events` (Avro or JSON) and `dead-letters`; labels of the injected anomalies; `clients.csv` and `achats.csv`.
//! Never: reads the wall clock itself, draws a number that the seed does not fix, or drops a line without a dead letter.

mod clock;
mod error;
mod outbox;
mod pace;
mod progress;
mod replay;
mod scenario;
mod shop_files;
mod simulate;
mod topics;

pub use clock::{Clock, SystemClock};
pub use error::ProducerError;
pub use progress::{NoProgress, Progress, Sent, StderrProgress};
pub use replay::{POSITION_HEADER, ReplayConfig, ReplaySummary, SOURCE_HEADER, fields_of_line, replay, replay_bytes};
pub use scenario::{Scenario, SimulateOverrides};
pub use shop_files::{ShopFilesConfig, write_shop_files};
pub use simulate::{
    Anomaly, AnomalyKind, Label, Parcel, ParcelKind, SimulateConfig, SimulateSummary, Simulation, SimulationPlan,
    simulate, write_labels,
};
pub use topics::ProducerTopics;
