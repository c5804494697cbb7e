-- title: Distribution of order values
-- grain: one tenth of the orders of one source
-- key: source, tenth
-- unit: money in the shop's currency, orders
-- definition: Orders by amount in ten groups of equal size (NTILE), the smallest amounts first.
-- source: ISO/IEC 9075-2 (NTILE)
WITH amounts AS (
  SELECT source, amount, count(*) AS orders FROM gold.fact_orders GROUP BY source, amount
),
placed AS (
  SELECT *, sum(orders) OVER (PARTITION BY source ORDER BY amount) AS upto, sum(orders) OVER (PARTITION BY source) AS n
  FROM amounts
),
-- Where each tenth begins and ends among the orders of a source; the first n % 10 of them have one more.
tenths AS (
  SELECT source, CAST(t.tenth AS INT) AS tenth, (t.tenth - 1) * (n / 10) + least(t.tenth - 1, n % 10) AS starts, t.tenth * (n / 10) + least(t.tenth, n % 10) AS ends
  FROM (SELECT DISTINCT source, n FROM placed) CROSS JOIN (SELECT unnest(range(1, 11)) AS tenth) t
),
-- Orders of one amount may lie in two tenths.
parts AS (
  SELECT p.source, t.tenth, p.amount, least(p.upto, t.ends) - greatest(p.upto - p.orders, t.starts) AS orders
  FROM placed p JOIN tenths t ON p.source = t.source AND p.upto > t.starts AND p.upto - p.orders < t.ends
)
SELECT
  source,
  tenth,
  CAST(sum(orders) AS BIGINT) AS orders,
  min(amount) AS least,
  max(amount) AS most,
  CAST(sum(amount * CAST(orders AS DECIMAL(18, 0))) AS DECIMAL(38, 4)) AS revenue,
  CAST(sum(amount * CAST(orders AS DECIMAL(18, 0))) AS DOUBLE) / sum(orders) AS mean
FROM parts
GROUP BY source, tenth
