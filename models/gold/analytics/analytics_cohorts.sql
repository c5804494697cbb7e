-- title: Cohorts
-- grain: one month after the first order of one cohort
-- key: source, cohort, period
-- unit: customers, share
-- definition: cohort = calendar month of the first order; retention = customers of the cohort with an order in month cohort + period / size of the cohort; period 0 is 1.
-- source: P. Fader, B. Hardie, Probability models for customer-base analysis, J. Interactive Marketing 23(1), 2009
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_part('year', order_date) * 12 + date_part('month', order_date) - 1 AS BIGINT) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
begun AS (
  SELECT source, month, min(month) OVER (PARTITION BY source, customer_id) AS cohort FROM active
),
seen AS (
  SELECT source, cohort, month - cohort AS period, count(*) AS active FROM begun GROUP BY source, cohort, month - cohort
),
sizes AS (
  SELECT source, cohort, sum(active) FILTER (WHERE period = 0) AS cohort_size, max(cohort + period) AS last_seen
  FROM seen GROUP BY source, cohort
),
spans AS (
  SELECT source, cohort, cohort_size, max(last_seen) OVER (PARTITION BY source) - cohort + 1 AS months FROM sizes
),
periods AS (
  SELECT source, cohort, cohort_size, unnest(range(0, months)) AS period FROM spans
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
