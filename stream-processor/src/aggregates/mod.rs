//! Aggregate functions of our own, where DataFusion has none that is exact, bounded and mergeable.

mod by_key;
mod distinct_count;
mod funnel_depth;
mod group_state;

pub use distinct_count::EXACT_MAX;
pub use funnel_depth::TIMES_MAX;

use datafusion::logical_expr::AggregateUDF;

/// All of them, for a session that is to know them.
pub fn aggregates() -> [AggregateUDF; 4] {
    [by_key::max_by(), by_key::min_by(), distinct_count::distinct_count(), funnel_depth::funnel_depth()]
}
