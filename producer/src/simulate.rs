//! A shop that does not exist: customers, products and sessions drawn from one seed.
//!
//! `world` holds who and what there is, `session` says what a visitor does next, `crowd` runs all visitors in event-time
//! order, `delivery` puts their events into arrival order with the faults asked for, `run` appends them to the log.

mod anomaly;
mod config;
mod countries;
mod crowd;
mod delivery;
mod draft;
mod effects;
mod labels;
mod plan;
mod products;
mod rhythm;
mod run;
mod segments;
mod session;
mod wording;
mod world;

pub use anomaly::{Anomaly, AnomalyKind};
pub use config::SimulateConfig;
pub use delivery::{Parcel, ParcelKind, Simulation};
pub use labels::{Label, write_labels};
pub use plan::SimulationPlan;
pub use run::{SimulateSummary, simulate};

pub(crate) use config::{start_text, time_text};
pub(crate) use countries::COUNTRIES;
pub(crate) use rhythm::Rhythm;
pub(crate) use segments::SEGMENTS;
pub(crate) use wording::{customer_text, product_text};
pub(crate) use world::World;
