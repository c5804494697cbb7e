-- title: Sessions
-- grain: session of a customer, ended by 30 minutes without an event
-- unit: events, money in the shop's currency
-- definition: A session holds a customer's events that are at most 30 minutes apart. Steps of the funnel count in their order: first page view, first cart at or after it, first purchase at or after that. Abandoned: with a cart, and no purchase at or after the first one; its value is what was put into the cart, less what was taken out.
-- source: Apache Flink documentation (session windows); M. Kukar-Kinney, A. Close, The determinants of consumers' online shopping cart abandonment, J. Academy of Marketing Science 38(2), 2010
-- publish: lake
SELECT
  customer_id,
  min(event_time) AS first_event,
  max(event_time) AS last_event,
  count(*) AS events,
  count(*) FILTER (WHERE event_type = 'page_view') AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
  count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue,
  min_by(event_type, event_time) AS entry,
  funnel_depth(event_time, event_type = 'page_view', event_type = 'add_to_cart', event_type = 'purchase') AS funnel_depth,
  coalesce(max(CASE event_type WHEN 'purchase' THEN 4 WHEN 'checkout_started' THEN 3 WHEN 'add_to_cart' THEN 2 WHEN 'page_view' THEN 1 ELSE 0 END), 0) AS furthest_step,
  min(event_time) FILTER (WHERE event_type = 'add_to_cart') IS NOT NULL
    AND coalesce(max(event_time) FILTER (WHERE event_type = 'purchase') < min(event_time) FILTER (WHERE event_type = 'add_to_cart'), true) AS is_abandoned,
  CASE
    WHEN min(event_time) FILTER (WHERE event_type = 'add_to_cart') IS NOT NULL
      AND coalesce(max(event_time) FILTER (WHERE event_type = 'purchase') < min(event_time) FILTER (WHERE event_type = 'add_to_cart'), true)
    THEN sum(CASE event_type WHEN 'add_to_cart' THEN coalesce(quantity * unit_price, 0) WHEN 'remove_from_cart' THEN -coalesce(quantity * unit_price, 0) ELSE 0 END)
    ELSE 0
  END AS value_left_in_cart
FROM events
WHERE customer_id IS NOT NULL
GROUP BY session(event_time, INTERVAL '30 minutes'), customer_id
