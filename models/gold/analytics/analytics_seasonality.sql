-- title: Seasonality
-- grain: one weekday (1 is Monday) or month of the year of one source
-- key: source, season, part
-- unit: money in the shop's currency, index
-- definition: seasonal_index = mean revenue of its days / mean of all days, days without sales as 0; 1 is average.
-- source: S. Makridakis, S. Wheelwright, R. Hyndman, Forecasting: Methods and Applications, 3rd ed. 1998 (ratio to mean)
WITH span AS (
  SELECT source, min(day) AS first_day, max(day) AS last_day FROM gold.fact_revenue_day GROUP BY source
),
days AS (
  SELECT s.source, d.iso_weekday, d.month_of_year, coalesce(r.revenue, 0) AS revenue
  FROM span s
  JOIN gold.dim_dates d ON d.day BETWEEN s.first_day AND s.last_day
  LEFT JOIN gold.fact_revenue_day r ON r.source = s.source AND r.day = d.day
),
all_days AS (
  SELECT source, CAST(sum(revenue) AS DOUBLE) / count(*) AS mean_daily FROM days GROUP BY source
),
seasons AS (
  SELECT source, 'weekday' AS season, iso_weekday AS part, revenue FROM days
  UNION ALL
  SELECT source, 'month' AS season, month_of_year AS part, revenue FROM days
)
SELECT
  s.source,
  s.season,
  s.part,
  count(*) AS days,
  sum(s.revenue) AS revenue,
  CAST(sum(s.revenue) AS DOUBLE) / count(*) AS mean_daily,
  CAST(sum(s.revenue) AS DOUBLE) / count(*) / nullif(a.mean_daily, 0) AS seasonal_index
FROM seasons s JOIN all_days a ON s.source = a.source
GROUP BY s.source, s.season, s.part, a.mean_daily
