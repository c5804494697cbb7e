//! The models under test: the shipped `activity`, and others of every kind of window, with WHERE, HAVING, FILTER, a ratio,
//! our own aggregates, and a model over another's rows.

use sluice_stream_processor::LiveModel;
use std::sync::Arc;

pub(crate) const MODELS: [(&str, &str); 5] = [
    ("activity", include_str!("../../models/live/activity.sql")),
    (
        "baskets",
        "SELECT device, sum(quantity) AS items, count(*) FILTER (WHERE quantity > 2) AS large,
           CAST(sum(quantity) AS DOUBLE) / count(*) AS mean
         FROM events WHERE event_type = 'purchase' OR event_type = 'add_to_cart'
         GROUP BY tumble(event_time, INTERVAL '2 minutes'), device
         HAVING count(*) > 1",
    ),
    (
        "rolling",
        "SELECT country, count(*) AS events, max(quantity) AS most
         FROM events GROUP BY hop(event_time, INTERVAL '40 seconds', INTERVAL '100 seconds'), country",
    ),
    (
        "sessions",
        "SELECT customer_id, count(*) AS events, min_by(event_type, event_time) AS entry,
           funnel_depth(event_time, event_type = 'page_view', event_type = 'add_to_cart', event_type = 'purchase') AS depth
         FROM events WHERE customer_id IS NOT NULL
         GROUP BY session(event_time, INTERVAL '1 minute'), customer_id",
    ),
    (
        "funnel",
        "SELECT count(*) AS sessions, sum(events) AS events, count(*) FILTER (WHERE depth >= 2) AS carted
         FROM live.sessions GROUP BY tumble(window_end, INTERVAL '3 minutes')",
    ),
];

pub(crate) fn models() -> Arc<[LiveModel]> {
    LiveModel::compile_all(MODELS).expect("the models under test compile").into()
}
