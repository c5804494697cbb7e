-- title: Monthly retention
-- grain: one calendar month of one source
-- key: source, month
-- unit: customers, share
-- definition: active = customers with an order in the month; retained_next = those of them with one in the next month too; rate = retained_next / active. The last month has no next one.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_part('year', order_time) * 12 + date_part('month', order_time) - 1 AS BIGINT) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
last_month AS (
  SELECT source, max(month) AS month FROM active GROUP BY source
)
SELECT
  a.source,
  lpad(CAST(a.month / 12 AS VARCHAR), 4, '0') || '-' || lpad(CAST(a.month % 12 + 1 AS VARCHAR), 2, '0') AS month,
  count(*) AS active,
  count(n.customer_id) AS retained_next,
  CAST(count(n.customer_id) AS DOUBLE) / count(*) AS rate
FROM active a
JOIN last_month l ON a.source = l.source AND a.month < l.month
LEFT JOIN active n ON a.source = n.source AND a.customer_id = n.customer_id AND n.month = a.month + 1
GROUP BY a.source, a.month
