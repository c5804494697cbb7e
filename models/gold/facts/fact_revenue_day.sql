-- title: Revenue by day
-- grain: one UTC day with sales
-- key: source, day
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = number of orders, each at the time of its first line; customers = distinct known customers; aov = revenue / orders.
-- partition: month of day
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  order_date AS day,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM gold.fact_orders
GROUP BY source, order_date
