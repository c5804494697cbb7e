-- title: Growth
-- grain: one calendar month of one source
-- key: source, month
-- unit: money in the shop's currency, share
-- definition: growth = (revenue - previous) / previous, over all calendar months from the first sale to the last; null for the first month and after a month without sales.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH months AS (
  SELECT d.month, min(d.day) AS first_day FROM gold.dim_dates d GROUP BY d.month
),
span AS (
  SELECT source, min(month) AS first_month, max(month) AS last_month FROM gold.fact_revenue_month GROUP BY source
),
filled AS (
  SELECT s.source, m.month, coalesce(r.revenue, 0) AS revenue
  FROM span s
  JOIN months m ON m.month BETWEEN s.first_month AND s.last_month
  LEFT JOIN gold.fact_revenue_month r ON r.source = s.source AND r.month = m.month
),
compared AS (
  SELECT *, lag(revenue) OVER (PARTITION BY source ORDER BY month) AS previous FROM filled
)
SELECT source, month, revenue, previous, CAST(revenue - previous AS DOUBLE) / nullif(CAST(previous AS DOUBLE), 0) AS growth
FROM compared
