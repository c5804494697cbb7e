-- title: Monthly retention
-- grain: one calendar month of one source
-- key: source, month
-- unit: customers, share
-- definition: active = customers with an order in the month; retained_next = those of them with one in the next month too; rate = retained_next / active. The last month has no next one.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_part('year', order_date) * 12 + date_part('month', order_date) - 1 AS BIGINT) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
followed AS (
  SELECT source, month, lead(month) OVER (PARTITION BY source, customer_id ORDER BY month) AS next_active FROM active
),
months AS (
  SELECT source, month, count(*) AS active, count(*) FILTER (WHERE next_active = month + 1) AS retained_next
  FROM followed GROUP BY source, month
),
placed AS (
  SELECT *, max(month) OVER (PARTITION BY source) AS last_month FROM months
)
SELECT
  source,
  lpad(CAST(month / 12 AS VARCHAR), 4, '0') || '-' || lpad(CAST(month % 12 + 1 AS VARCHAR), 2, '0') AS month,
  active,
  retained_next,
  CAST(retained_next AS DOUBLE) / active AS rate
FROM placed
WHERE month < last_month
