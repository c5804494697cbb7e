-- title: Revenue by country
-- grain: one country of buyers
-- key: source, country
-- unit: money in the shop's currency, orders, customers
-- definition: revenue = sum of amounts; orders = number of orders, each at the time of its first line; customers = distinct known customers; aov = revenue / orders. country = that of the buyer; unknown where it is not known.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  country,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM gold.fact_orders
GROUP BY source, country
