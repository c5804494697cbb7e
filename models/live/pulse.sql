-- title: Pulse
-- grain: 1 minute by country and category
-- unit: events, money in the shop's currency
-- definition: What people look at, put into carts and buy: page views, carts and purchases (lines of orders) of a category; revenue = sum of quantity x unit_price over purchases.
-- source: W. Moe, P. Fader, Dynamic conversion behavior at e-commerce sites, Management Science 50(3), 2004
-- detect: measure=views, method=rate, direction=both, severity=warning, money=revenue
-- detect: measure=carts/views, name=cart_rate, method=rate, threshold=5, direction=both, severity=warning, money=revenue
-- detect: measure=revenue/purchases, name=purchase_value, method=rate, threshold=5, direction=both, severity=warning, money=revenue
SELECT
  country,
  category,
  count(*) FILTER (WHERE event_type = 'page_view') AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
  count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue
FROM events
WHERE event_type IN ('page_view', 'add_to_cart', 'purchase')
GROUP BY tumble(event_time, INTERVAL '1 minute'), country, category
