-- title: Products
-- grain: 5 minutes by product
-- unit: events, items, revenue in the shop's currency
-- definition: Page views, carts and purchases of each product; items and revenue over purchases, revenue = sum of quantity x unit_price.
-- source: P. Farris, N. Bendle, P. Pfeifer, D. Reibstein, Marketing Metrics, 2nd ed. 2010
SELECT
  product_id,
  count(*) FILTER (WHERE event_type = 'page_view') AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
  count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
  coalesce(sum(quantity) FILTER (WHERE event_type = 'purchase'), 0) AS items,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue
FROM events
WHERE product_id IS NOT NULL
GROUP BY tumble(event_time, INTERVAL '5 minutes'), product_id
