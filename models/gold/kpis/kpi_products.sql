-- title: Products
-- grain: one product of one source
-- key: source, product
-- unit: money in the shop's currency, orders, customers, share
-- definition: revenue_share = revenue / revenue of all products; rank by revenue, the largest first, ties by product.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH buyers AS (
  SELECT source, product, customer_id, sum(amount) AS revenue, count(*) FILTER (WHERE is_whole) AS orders
  FROM orders WHERE product IS NOT NULL GROUP BY source, product, customer_id
),
bought AS (
  SELECT source, product, sum(revenue) AS revenue, sum(orders) AS orders, count(customer_id) AS customers
  FROM buyers GROUP BY source, product
),
orders_of_lines AS (
  SELECT source, product, count(DISTINCT order_id) AS orders
  FROM orders WHERE product IS NOT NULL AND NOT is_whole GROUP BY source, product
),
products AS (
  SELECT b.source, b.product, b.revenue, CAST(b.orders + coalesce(l.orders, 0) AS BIGINT) AS orders, b.customers
  FROM bought b LEFT JOIN orders_of_lines l ON b.source = l.source AND b.product = l.product
)
SELECT
  *,
  CAST(revenue AS DOUBLE) / nullif(CAST(sum(revenue) OVER (PARTITION BY source) AS DOUBLE), 0) AS revenue_share,
  CAST(row_number() OVER (PARTITION BY source ORDER BY revenue DESC, product) AS BIGINT) AS rank
FROM products
