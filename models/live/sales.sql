-- title: Sales
-- grain: 1 minute by country
-- unit: orders, items, revenue and order value in the shop's currency
-- definition: Over purchase events. Orders are distinct order_id (event_id where there is none); AOV = revenue / orders; p50 and p95 of the line value are t-digest estimates.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  country,
  distinct_count(coalesce(order_id, event_id)) AS orders,
  sum(coalesce(quantity * unit_price, 0)) AS revenue,
  CAST(sum(coalesce(quantity * unit_price, 0)) AS DOUBLE) / nullif(distinct_count(coalesce(order_id, event_id)), 0) AS aov,
  sum(quantity) AS items,
  approx_percentile_cont(CAST(quantity * unit_price AS DOUBLE), 0.5) AS value_p50,
  approx_percentile_cont(CAST(quantity * unit_price AS DOUBLE), 0.95) AS value_p95
FROM events
WHERE event_type = 'purchase'
GROUP BY tumble(event_time, INTERVAL '1 minute'), country
