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
    CAST(date_part('year', order_time) * 12 + date_part('month', order_time) - 1 AS BIGINT) AS month,
    order_time,
    order_id,
    amount
  FROM orders
),
last_month AS (
  SELECT source, max(month) AS month FROM bought GROUP BY source
),
customers AS (
  SELECT
    b.source,
    b.customer_id,
    sum(b.amount) AS historic,
    count(DISTINCT b.order_id) AS orders,
    to_char(min(b.order_time), '%Y-%m') AS first_month,
    l.month - min(b.month) + 1 AS months_observed
  FROM bought b JOIN last_month l ON b.source = l.source
  WHERE b.customer_id IS NOT NULL
  GROUP BY b.source, b.customer_id, l.month
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
