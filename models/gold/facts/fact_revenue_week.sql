-- title: Revenue by week
-- grain: one ISO 8601 week with sales
-- key: source, week
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = number of orders, each at the time of its first line; customers = distinct known customers; aov = revenue / orders. Weeks begin on Monday; week 1 holds the first Thursday (ISO 8601).
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  to_char(date_trunc('week', order_time), '%G-W%V') AS week,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM gold.fact_orders
GROUP BY source, date_trunc('week', order_time)
