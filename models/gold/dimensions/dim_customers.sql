-- title: Customers
-- grain: one customer of one source
-- key: source, customer_id
-- unit: text, days, money in the shop's currency
-- definition: Customers with an order, and those of silver.customers without one. Names and e-mail addresses stay in silver.
-- source: R. Kimball, M. Ross, The Data Warehouse Toolkit, 3rd ed. 2013
WITH bought AS (
  SELECT source, customer_id, min(country) FILTER (WHERE source <> 'files') AS country, min(order_time) AS first_order,
         max(last_line_time) AS last_order, count(*) AS orders, sum(amount) AS revenue
  FROM gold.fact_orders WHERE customer_id IS NOT NULL GROUP BY source, customer_id
)
SELECT
  coalesce(b.source, 'files') AS source,
  coalesce(b.customer_id, c.customer_id) AS customer_id,
  coalesce(c.country, b.country) AS country,
  c.signup_date,
  b.first_order,
  b.last_order,
  coalesce(b.orders, 0) AS orders,
  coalesce(b.revenue, 0) AS revenue
FROM bought b
FULL JOIN customers c ON b.source = 'files' AND b.customer_id = c.customer_id
