-- title: Products
-- grain: one product of one source
-- key: source, product
-- unit: money in the shop's currency, orders, customers, share
-- definition: revenue_share = revenue / revenue of all products; rank by revenue, the largest first, ties by product.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
WITH products AS (
  SELECT
    source,
    product,
    sum(amount) AS revenue,
    count(*) FILTER (WHERE is_whole) + count(DISTINCT order_id) FILTER (WHERE NOT is_whole) AS orders,
    count(DISTINCT customer_id) AS customers
  FROM order_lines WHERE product IS NOT NULL GROUP BY source, product
)
SELECT
  *,
  CAST(revenue AS DOUBLE) / nullif(CAST(sum(revenue) OVER (PARTITION BY source) AS DOUBLE), 0) AS revenue_share,
  CAST(row_number() OVER (PARTITION BY source ORDER BY revenue DESC, product) AS BIGINT) AS rank
FROM products
