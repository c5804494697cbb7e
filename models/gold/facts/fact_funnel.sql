-- title: Funnel
-- grain: one UTC day in which sessions begin
-- key: day
-- unit: sessions, rates
-- definition: Steps in order: with a page view; then a cart at or after it; then a purchase at or after that. Each rate is a step over the one before; overall = the last over the first. viewed, carted, purchased are without order.
-- source: W. Moe, P. Fader, Dynamic conversion behavior at e-commerce sites, Management Science 50(3), 2004
SELECT
  session_date AS day,
  count(*) AS sessions,
  count(*) FILTER (WHERE views > 0) AS viewed,
  count(*) FILTER (WHERE carts > 0) AS carted,
  count(*) FILTER (WHERE purchases > 0) AS purchased,
  count(*) FILTER (WHERE funnel_depth >= 1) AS began,
  count(*) FILTER (WHERE funnel_depth >= 2) AS view_cart,
  count(*) FILTER (WHERE funnel_depth >= 3) AS view_cart_purchase,
  CAST(count(*) FILTER (WHERE funnel_depth >= 2) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 1), 0) AS rate_view_cart,
  CAST(count(*) FILTER (WHERE funnel_depth >= 3) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 2), 0) AS rate_cart_purchase,
  CAST(count(*) FILTER (WHERE funnel_depth >= 3) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 1), 0) AS rate_overall
FROM gold.fact_sessions
GROUP BY session_date
