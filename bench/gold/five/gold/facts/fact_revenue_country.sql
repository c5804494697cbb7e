-- title: Revenue by country, of the rows of silver
-- key: source, country
SELECT
  source,
  country,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM orders
GROUP BY source, country
