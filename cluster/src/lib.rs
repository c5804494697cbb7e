//! Gold on many machines: the SQL of the models on a cluster of Ballista, which is DataFusion in several processes.
//!
//! In: a model's SQL and the files of the tables that it reads. Out: its rows. One process is the scheduler, any number are
//! executors; all of them, and who asks, reach the lake at the same places and are of one version of sluice.
//! Never: writes a table; who asks does that, in one commit, as with the engine in its own process.

mod engine;
mod nodes;
mod tables;

pub use engine::ClusterEngine;
pub use nodes::{ExecutorSettings, NodeError, run_executor, run_scheduler};
pub use tables::Dated;

use datafusion::execution::context::SessionContext;
use object_store::ObjectStore;
use std::sync::Arc;
use url::Url;

/// What each process of a cluster has to know in the same way.
#[derive(Clone)]
pub struct Shared {
    /// The stores of the lake that are no folders, by the address of their root.
    pub stores: Vec<(Url, Arc<dyn ObjectStore>)>,
    /// Lets a session know the functions that models may call beside the engine's own.
    pub functions: fn(&SessionContext),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.stores.iter().map(|(url, _)| url.as_str())).finish()
    }
}
