-- title: Funnel
-- grain: hour in which sessions end
-- unit: sessions, rates, money in the shop's currency
-- definition: Over sessions by the hour of their window_end. Steps in order: with a page view; then a cart at or after it; then a purchase at or after that. Each rate is a step over the one before. viewed, carted, purchased are without order. Abandonment rate = abandoned / sessions with a cart.
-- source: W. Moe, P. Fader, Dynamic conversion behavior at e-commerce sites, Management Science 50(3), 2004; M. Kukar-Kinney, A. Close, J. Academy of Marketing Science 38(2), 2010
SELECT
  count(*) AS sessions,
  count(*) FILTER (WHERE views > 0) AS viewed,
  count(*) FILTER (WHERE carts > 0) AS carted,
  count(*) FILTER (WHERE purchases > 0) AS purchased,
  count(*) FILTER (WHERE funnel_depth >= 2) AS view_cart,
  count(*) FILTER (WHERE funnel_depth >= 3) AS view_cart_purchase,
  CAST(count(*) FILTER (WHERE funnel_depth >= 2) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 1), 0) AS rate_view_cart,
  CAST(count(*) FILTER (WHERE funnel_depth >= 3) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 2), 0) AS rate_cart_purchase,
  CAST(count(*) FILTER (WHERE funnel_depth >= 3) AS DOUBLE) / nullif(count(*) FILTER (WHERE funnel_depth >= 1), 0) AS rate_overall,
  count(*) FILTER (WHERE is_abandoned) AS abandoned,
  CAST(count(*) FILTER (WHERE is_abandoned) AS DOUBLE) / nullif(count(*) FILTER (WHERE carts > 0), 0) AS abandonment_rate,
  coalesce(sum(value_left_in_cart), 0) AS abandoned_value
FROM live.sessions
GROUP BY tumble(window_end, INTERVAL '1 hour')
