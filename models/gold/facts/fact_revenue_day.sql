-- title: Revenue by day
-- grain: one UTC day with sales
-- key: source, day
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = distinct orders; customers = distinct known customers; aov = revenue / orders.
-- partition: month of day
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  CAST(date_trunc('day', order_time) AS DATE) AS day,
  sum(amount) AS revenue,
  count(DISTINCT order_id) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / nullif(count(DISTINCT order_id), 0) AS aov
FROM orders
GROUP BY source, CAST(date_trunc('day', order_time) AS DATE)
