-- title: Monthly retention
-- grain: one calendar month of one source
-- key: source, month
-- unit: customers, share
-- definition: active = customers with an order in the month; retained_next = those of them with one in the next month too; rate = retained_next / active. The last month has no next one.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_trunc('month', order_time) AS DATE) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
customers AS (
  SELECT source, array_agg(month) AS months FROM active GROUP BY source, customer_id
),
seen AS (
  SELECT source, months, unnest(months) AS month FROM customers
),
counted AS (
  SELECT source, month, count(*) AS active, count(*) FILTER (WHERE array_has(months, CAST(month + INTERVAL '1 month' AS DATE))) AS retained_next
  FROM seen GROUP BY source, month
),
placed AS (
  SELECT *, max(month) OVER (PARTITION BY source) AS last_month FROM counted
)
SELECT
  source,
  to_char(month, '%Y-%m') AS month,
  active,
  retained_next,
  CAST(retained_next AS DOUBLE) / active AS rate
FROM placed
WHERE month < last_month
