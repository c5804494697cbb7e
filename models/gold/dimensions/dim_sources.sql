-- title: Sources
-- grain: one source of orders
-- key: source
-- unit: orders, money in the shop's currency
-- definition: Where orders come from: files or events. first_order, last_order: the times of the first and the last line; reference_day: the day after the last, from which recency is counted.
-- source: R. Kimball, M. Ross, The Data Warehouse Toolkit, 3rd ed. 2013
SELECT
  source,
  min(order_time) AS first_order,
  max(last_line_time) AS last_order,
  CAST(max(last_line_time) + INTERVAL '1 day' AS DATE) AS reference_day,
  count(*) AS orders,
  sum(amount) AS revenue
FROM gold.fact_orders
GROUP BY source
