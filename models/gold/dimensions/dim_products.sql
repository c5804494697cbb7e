-- title: Products
-- grain: one product of one source
-- key: source, product
-- unit: text, money in the shop's currency
-- definition: Products that were sold. category: the newest that an event told.
-- source: R. Kimball, M. Ross, The Data Warehouse Toolkit, 3rd ed. 2013
SELECT
  source,
  product,
  last_value(category ORDER BY order_time) FILTER (WHERE category IS NOT NULL) AS category,
  min(order_time) AS first_sold,
  max(order_time) AS last_sold
FROM order_lines
WHERE product IS NOT NULL
GROUP BY source, product
