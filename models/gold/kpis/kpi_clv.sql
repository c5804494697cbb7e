-- title: Customer lifetime value
-- grain: one customer of one source
-- key: source, customer_id
-- unit: money in the shop's currency
-- definition: historic = revenue of the customer; predictive = m * r / (1 + d - r): m = historic / calendar months from the first order to the last month of the data, r = pooled monthly retention, d = 0.01 a month, margin 100 %.
-- source: S. Gupta, D. Lehmann, Customers as assets, J. Interactive Marketing 17(1), 2003
WITH pooled AS (
  SELECT source, CAST(sum(retained_next) AS DOUBLE) / nullif(sum(active), 0) AS retention FROM gold.kpi_retention GROUP BY source
),
customers AS (
  SELECT
    c.source,
    c.customer_id,
    c.revenue AS historic,
    c.orders,
    to_char(c.first_order, '%Y-%m') AS first_month,
    CAST(
      12 * (date_part('year', s.last_order) - date_part('year', c.first_order))
      + date_part('month', s.last_order) - date_part('month', c.first_order) + 1
    AS BIGINT) AS months_observed
  FROM gold.dim_customers c JOIN gold.dim_sources s ON c.source = s.source
  WHERE c.orders > 0
)
SELECT
  c.source,
  c.customer_id,
  c.historic,
  c.orders,
  c.first_month,
  c.months_observed,
  CAST(c.historic AS DOUBLE) / c.months_observed AS monthly_value,
  CAST(c.historic AS DOUBLE) / c.months_observed * p.retention / (1.01 - p.retention) AS predictive
FROM customers c LEFT JOIN pooled p ON c.source = p.source
