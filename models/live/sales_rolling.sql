-- title: Sales, rolling
-- grain: the last 15 minutes, every minute, by country
-- unit: orders, items and revenue in the shop's currency
-- definition: As in sales, over windows of 15 minutes that begin every minute.
-- source: T. Akidau et al., The Dataflow Model, PVLDB 8(12), 2015 (sliding windows)
SELECT
  country,
  distinct_count(coalesce(order_id, event_id)) AS orders,
  sum(coalesce(quantity * unit_price, 0)) AS revenue,
  CAST(sum(coalesce(quantity * unit_price, 0)) AS DOUBLE) / nullif(distinct_count(coalesce(order_id, event_id)), 0) AS aov,
  sum(quantity) AS items
FROM events
WHERE event_type = 'purchase'
GROUP BY hop(event_time, INTERVAL '1 minute', INTERVAL '15 minutes'), country
