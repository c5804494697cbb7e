-- title: Overview
-- grain: one source
-- key: source
-- unit: money in the shop's currency, orders, customers, shares
-- definition: aov = revenue / orders; arpu = revenue of known customers / customers; repeat_rate = customers with two orders or more / customers; churned = last order more than 90 days before the reference date, the day after the last order; monthly_retention = pooled.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010; P. Fader, B. Hardie, Probability models for customer-base analysis, J. Interactive Marketing 23(1), 2009
WITH products AS (
  SELECT source, count(*) AS products FROM gold.kpi_products GROUP BY source
),
countries AS (
  SELECT source, count(country) AS countries FROM gold.fact_revenue_country GROUP BY source
),
customers AS (
  SELECT
    source,
    count(*) AS customers,
    sum(monetary) AS revenue,
    count(*) FILTER (WHERE frequency >= 2) AS repeat_customers,
    count(*) FILTER (WHERE recency_days > 90) AS churned
  FROM gold.kpi_rfm GROUP BY source
),
retention AS (
  SELECT source, CAST(sum(retained_next) AS DOUBLE) / nullif(sum(active), 0) AS monthly_retention
  FROM gold.kpi_retention GROUP BY source
)
SELECT
  s.source,
  s.revenue,
  s.orders,
  coalesce(c.customers, 0) AS customers,
  coalesce(p.products, 0) AS products,
  n.countries,
  CAST(s.revenue AS DOUBLE) / nullif(s.orders, 0) AS aov,
  CAST(c.revenue AS DOUBLE) / nullif(c.customers, 0) AS arpu,
  s.first_order,
  s.last_order,
  coalesce(c.repeat_customers, 0) AS repeat_customers,
  CAST(c.repeat_customers AS DOUBLE) / nullif(c.customers, 0) AS repeat_rate,
  coalesce(c.churned, 0) AS churned,
  CAST(c.churned AS DOUBLE) / nullif(c.customers, 0) AS churn_rate,
  r.monthly_retention
FROM gold.dim_sources s
LEFT JOIN customers c ON s.source = c.source
LEFT JOIN products p ON s.source = p.source
LEFT JOIN countries n ON s.source = n.source
LEFT JOIN retention r ON s.source = r.source
