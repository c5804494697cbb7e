-- title: Revenue by country
-- grain: one country of buyers
-- key: source, country
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = distinct orders; customers = distinct known customers; aov = revenue / orders. country = that of the buyer; unknown where it is not known.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  country AS country,
  sum(amount) AS revenue,
  count(DISTINCT order_id) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / nullif(count(DISTINCT order_id), 0) AS aov
FROM orders
GROUP BY source, country
