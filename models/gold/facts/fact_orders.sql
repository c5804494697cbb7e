-- title: Orders
-- grain: one order of one source
-- key: source, order_id
-- unit: money in the shop's currency
-- definition: An order of silver.orders (source files), or the purchase events of one order (source events); amount = sum of its lines. An order has the time of its first line.
-- partition: month of order_time until last_line_time
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010

SELECT
  source,
  order_id,
  customer_id,
  country,
  order_time,
  order_time AS last_line_time,
  CAST(date_trunc('day', order_time) AS DATE) AS order_date,
  CAST(1 AS BIGINT) AS lines,
  CAST(amount AS DECIMAL(38, 4)) AS amount
FROM orders
WHERE is_whole
UNION ALL
SELECT
  source,
  order_id,
  min(customer_id) AS customer_id,
  min(country) AS country,
  min(order_time) AS order_time,
  max(order_time) AS last_line_time,
  CAST(date_trunc('day', min(order_time)) AS DATE) AS order_date,
  count(*) AS lines,
  sum(amount) AS amount
FROM orders
WHERE NOT is_whole
GROUP BY source, order_id
