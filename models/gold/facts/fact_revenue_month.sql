-- title: Revenue by month
-- grain: one calendar month with sales
-- key: source, month
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = number of orders, each at the time of its first line; customers = distinct known customers; aov = revenue / orders.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  to_char(date_trunc('month', order_time), '%Y-%m') AS month,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM gold.fact_orders
GROUP BY source, date_trunc('month', order_time)
