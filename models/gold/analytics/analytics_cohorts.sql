-- title: Cohorts
-- grain: one month after the first order of one cohort
-- key: source, cohort, period
-- unit: customers, share
-- definition: cohort = calendar month of the first order; retention = customers of the cohort with an order in month cohort + period / size of the cohort; period 0 is 1.
-- source: P. Fader, B. Hardie, Probability models for customer-base analysis, J. Interactive Marketing 23(1), 2009
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_part('year', order_time) * 12 + date_part('month', order_time) - 1 AS BIGINT) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
last_month AS (
  SELECT source, max(month) AS month FROM active GROUP BY source
),
first_month AS (
  SELECT source, customer_id, min(month) AS cohort FROM active GROUP BY source, customer_id
),
sizes AS (
  SELECT source, cohort, count(*) AS cohort_size FROM first_month GROUP BY source, cohort
),
periods AS (
  SELECT s.source, s.cohort, s.cohort_size, unnest(range(0, l.month - s.cohort + 1)) AS period
  FROM sizes s JOIN last_month l ON s.source = l.source
),
seen AS (
  SELECT f.source, f.cohort, a.month - f.cohort AS period, count(*) AS active
  FROM active a JOIN first_month f ON a.source = f.source AND a.customer_id = f.customer_id
  GROUP BY f.source, f.cohort, a.month - f.cohort
)
SELECT
  p.source,
  lpad(CAST(p.cohort / 12 AS VARCHAR), 4, '0') || '-' || lpad(CAST(p.cohort % 12 + 1 AS VARCHAR), 2, '0') AS cohort,
  p.period,
  p.cohort_size,
  coalesce(s.active, 0) AS active,
  CAST(coalesce(s.active, 0) AS DOUBLE) / p.cohort_size AS retention
FROM periods p
LEFT JOIN seen s ON p.source = s.source AND p.cohort = s.cohort AND p.period = s.period
