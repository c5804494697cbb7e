-- title: Customers
-- grain: one customer with an order, of one source
-- key: source, customer_id
-- unit: days, orders, money in the shop's currency, scores 1 to 5
-- definition: What is known of a customer, in one row: of dim_customers, kpi_rfm and kpi_clv.
-- source: A. Hughes, Strategic Database Marketing, 1994; S. Gupta, D. Lehmann, Customers as assets, J. Interactive Marketing 17(1), 2003
SELECT
  d.source,
  d.customer_id,
  d.country,
  d.signup_date,
  d.first_order,
  d.last_order,
  d.orders,
  d.revenue,
  r.recency_days,
  r.r,
  r.f,
  r.m,
  r.segment,
  c.monthly_value,
  c.predictive
FROM gold.dim_customers d
JOIN gold.kpi_rfm r ON d.source = r.source AND d.customer_id = r.customer_id
JOIN gold.kpi_clv c ON d.source = c.source AND d.customer_id = c.customer_id
