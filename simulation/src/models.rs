//! The models under test: the shipped `activity`, and one with WHERE, HAVING, FILTER, a ratio and another window.

use sluice_stream_processor::LiveModel;
use std::sync::Arc;

pub(crate) const BASKETS: &str = "
SELECT
  device,
  sum(quantity) AS items,
  count(*) FILTER (WHERE quantity > 2) AS large,
  CAST(sum(quantity) AS DOUBLE) / count(*) AS mean
FROM events
WHERE event_type = 'purchase' OR event_type = 'add_to_cart'
GROUP BY tumble(event_time, INTERVAL '2 minutes'), device
HAVING count(*) > 1";

pub(crate) fn models() -> Arc<[LiveModel]> {
    let activity = include_str!("../../models/live/activity.sql");
    LiveModel::compile_all([("activity", activity), ("baskets", BASKETS)]).unwrap().into()
}
