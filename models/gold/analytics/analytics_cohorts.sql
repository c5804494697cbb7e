-- title: Cohorts
-- grain: one month after the first order of one cohort
-- key: source, cohort, period
-- unit: customers, share
-- definition: cohort = calendar month of the first order; retention = customers of the cohort with an order in month cohort + period / size of the cohort; period 0 is 1.
-- source: P. Fader, B. Hardie, Probability models for customer-base analysis, J. Interactive Marketing 23(1), 2009
WITH active AS (
  SELECT DISTINCT source, customer_id, CAST(date_trunc('month', order_time) AS DATE) AS month
  FROM gold.fact_orders WHERE customer_id IS NOT NULL
),
customers AS (
  SELECT source, min(month) AS cohort, array_agg(month) AS months FROM active GROUP BY source, customer_id
),
counted AS (
  SELECT source, cohort, month, count(*) AS active
  FROM (SELECT source, cohort, unnest(months) AS month FROM customers) GROUP BY source, cohort, month
),
numbered AS (
  SELECT
    source,
    CAST(12 * date_part('year', cohort) + date_part('month', cohort) - 1 AS BIGINT) AS cohort,
    CAST(12 * date_part('year', month) + date_part('month', month) - 1 AS BIGINT) AS month,
    active
  FROM counted
),
cohorts AS (
  SELECT
    source,
    cohort,
    sum(active) FILTER (WHERE month = cohort) AS cohort_size,
    max(month) AS last_seen,
    array_agg(month - cohort) AS periods,
    array_agg(active) AS actives
  FROM numbered GROUP BY source, cohort
),
spans AS (
  SELECT *, max(last_seen) OVER (PARTITION BY source) - cohort + 1 AS months FROM cohorts
),
filled AS (
  SELECT source, cohort, cohort_size, periods, actives, unnest(range(0, months)) AS period FROM spans
),
counts AS (
  SELECT source, cohort, cohort_size, period, coalesce(actives[CAST(array_position(periods, period) AS BIGINT)], 0) AS active FROM filled
)
SELECT
  source,
  lpad(CAST(cohort / 12 AS VARCHAR), 4, '0') || '-' || lpad(CAST(cohort % 12 + 1 AS VARCHAR), 2, '0') AS cohort,
  period,
  cohort_size,
  active,
  CAST(active AS DOUBLE) / cohort_size AS retention
FROM counts
