-- title: Dates
-- grain: one calendar day
-- key: day
-- unit: days
-- definition: Every day from the first sale to the last, of all sources; weeks as in ISO 8601.
-- source: ISO 8601-1:2019
WITH span AS (
  SELECT CAST(min(first_order) AS DATE) AS first_day, CAST(max(last_order) AS DATE) AS last_day FROM gold.dim_sources
),
days AS (
  SELECT unnest(generate_series(first_day, last_day, INTERVAL '1 day')) AS day FROM span WHERE first_day IS NOT NULL
)
SELECT
  CAST(day AS DATE) AS day,
  CAST(date_part('year', day) AS INT) AS year,
  CAST(date_part('quarter', day) AS INT) AS quarter,
  CAST(date_part('month', day) AS INT) AS month_of_year,
  to_char(day, '%Y-%m') AS month,
  to_char(day, '%G-W%V') AS week,
  CAST((date_part('dow', day) + 6) % 7 + 1 AS INT) AS iso_weekday,
  (date_part('dow', day) + 6) % 7 >= 5 AS is_weekend
FROM days
