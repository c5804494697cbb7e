-- title: Checkout
-- grain: 1 minute by country
-- unit: events, rates, money in the shop's currency
-- definition: From the cart to the order, event by event: carts, checkouts, purchases (lines of orders), carts left behind; revenue = sum of quantity x unit_price over purchases.
-- source: M. Kukar-Kinney, A. Close, The determinants of consumers' online shopping cart abandonment, J. Academy of Marketing Science 38(2), 2010
-- detect: measure=purchases/checkouts, name=pay_rate, method=rate, direction=down, severity=critical, money=revenue
-- detect: measure=checkouts/carts, name=checkout_rate, method=rate, direction=down, severity=warning, money=revenue
-- detect: measure=abandons/(abandons+purchases), name=abandonment, method=rate, direction=up, severity=warning
SELECT
  country,
  count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
  count(*) FILTER (WHERE event_type = 'checkout_started') AS checkouts,
  count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
  count(*) FILTER (WHERE event_type = 'cart_abandon') AS abandons,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue
FROM events
WHERE event_type IN ('add_to_cart', 'checkout_started', 'purchase', 'cart_abandon')
GROUP BY tumble(event_time, INTERVAL '1 minute'), country
