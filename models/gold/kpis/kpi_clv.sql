-- title: Customer lifetime value
-- grain: one customer of one source
-- key: source, customer_id
-- unit: money in the shop's currency
-- definition: historic = revenue of the customer; predictive = m * r / (1 + d - r): m = historic / calendar months from the first order to the last month of the data, r = pooled monthly retention, d = 0.01 a month, margin 100 %.
-- source: S. Gupta, D. Lehmann, Customers as assets, J. Interactive Marketing 17(1), 2003
WITH pooled AS (
  SELECT source, CAST(sum(retained_next) AS DOUBLE) / nullif(sum(active), 0) AS retention FROM gold.kpi_retention GROUP BY source
),
bought AS (
  SELECT
    source,
    customer_id,
    sum(amount) AS historic,
    count(*) AS orders,
    min(order_time) AS first_order,
    max(last_line_time) AS last_order
  FROM gold.fact_orders GROUP BY source, customer_id
),
months AS (
  SELECT
    *,
    CAST(date_part('year', first_order) * 12 + date_part('month', first_order) AS BIGINT) AS first_month,
    CAST(date_part('year', last_order) * 12 + date_part('month', last_order) AS BIGINT) AS last_month
  FROM bought
),
customers AS (
  SELECT
    source,
    customer_id,
    historic,
    orders,
    to_char(first_order, '%Y-%m') AS first_month,
    max(last_month) OVER (PARTITION BY source) - first_month + 1 AS months_observed
  FROM months
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
WHERE c.customer_id IS NOT NULL
