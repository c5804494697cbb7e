-- title: Distribution of order values
-- grain: one tenth of the orders of one source
-- key: source, tenth
-- unit: money in the shop's currency, orders
-- definition: Orders by amount in ten groups of equal size (NTILE), the smallest amounts first, ties by order_id.
-- source: ISO/IEC 9075-2 (NTILE)
WITH ranked AS (
  SELECT source, amount, CAST(ntile(10) OVER (PARTITION BY source ORDER BY amount, order_id) AS INT) AS tenth
  FROM gold.fact_orders
)
SELECT
  source,
  tenth,
  count(*) AS orders,
  min(amount) AS least,
  max(amount) AS most,
  sum(amount) AS revenue,
  CAST(sum(amount) AS DOUBLE) / count(*) AS mean
FROM ranked
GROUP BY source, tenth
