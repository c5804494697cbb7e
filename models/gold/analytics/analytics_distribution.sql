-- title: Distribution of order values
-- grain: one tenth of the orders of one source
-- key: source, tenth
-- unit: money in the shop's currency, orders
-- definition: Orders by amount in ten groups of equal size (NTILE), the smallest amounts first.
-- source: ISO/IEC 9075-2 (NTILE)
WITH amounts AS (
  SELECT source, amount, count(*) AS orders FROM gold.fact_orders GROUP BY source, amount
),
-- From where to where an amount reaches among the orders of a source, of which the first `larger` tenths have one more.
placed AS (
  SELECT
    source,
    amount,
    CAST(sum(orders) OVER (PARTITION BY source ORDER BY amount) AS BIGINT) - orders AS starts,
    CAST(sum(orders) OVER (PARTITION BY source ORDER BY amount) AS BIGINT) AS ends,
    CAST(sum(orders) OVER (PARTITION BY source) AS BIGINT) / 10 AS size,
    CAST(sum(orders) OVER (PARTITION BY source) AS BIGINT) % 10 AS larger
  FROM amounts
),
-- Orders of one amount may lie in several tenths.
spread AS (
  SELECT
    *,
    unnest(range(
      CASE WHEN starts < larger * (size + 1) THEN starts / (size + 1) ELSE (starts - larger) / nullif(size, 0) END,
      CASE WHEN ends - 1 < larger * (size + 1) THEN (ends - 1) / (size + 1) ELSE (ends - 1 - larger) / nullif(size, 0) END + 1
    )) AS tile
  FROM placed
),
parts AS (
  SELECT
    source,
    tile,
    amount,
    least(ends, (tile + 1) * size + least(tile + 1, larger)) - greatest(starts, tile * size + least(tile, larger)) AS orders
  FROM spread
)
SELECT
  source,
  CAST(tile + 1 AS INT) AS tenth,
  CAST(sum(orders) AS BIGINT) AS orders,
  min(amount) AS least,
  max(amount) AS most,
  CAST(sum(amount * CAST(orders AS DECIMAL(18, 0))) AS DECIMAL(38, 4)) AS revenue,
  CAST(sum(amount * CAST(orders AS DECIMAL(18, 0))) AS DOUBLE) / sum(orders) AS mean
FROM parts
GROUP BY source, tile
