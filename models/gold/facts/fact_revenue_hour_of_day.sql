-- title: Revenue by hour of day
-- grain: one hour of day, 0 to 23, UTC
-- key: source, hour_of_day
-- unit: money in the shop's currency, orders, customers
-- definition: The sums of all days by UTC hour of day.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  source,
  CAST(date_part('hour', order_time) AS INT) AS hour_of_day,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM gold.fact_orders
GROUP BY source, CAST(date_part('hour', order_time) AS INT)
