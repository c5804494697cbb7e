-- title: Sessions
-- grain: one session of a customer, ended by 30 minutes without an event
-- key: customer_id, first_event
-- unit: events, seconds, money in the shop's currency
-- definition: A customer's events that are at most 30 minutes apart, late ones too. Steps of the funnel count in their order: first page view, first cart at or after it, first purchase at or after that. Abandoned: with a cart, and no purchase at or after the first one; its value is what was put into the cart, less what was taken out.
-- partition: day of first_event until last_event
-- source: Apache Flink documentation (session windows); M. Kukar-Kinney, A. Close, The determinants of consumers' online shopping cart abandonment, J. Academy of Marketing Science 38(2), 2010
WITH marked AS (
  SELECT
    *,
    CASE WHEN event_time - lag(event_time) OVER (PARTITION BY customer_id ORDER BY event_time, event_id) <= INTERVAL '30 minutes' THEN 0 ELSE 1 END AS is_first
  FROM shop_events WHERE customer_id IS NOT NULL
),
numbered AS (
  SELECT
    *,
    sum(is_first) OVER (PARTITION BY customer_id ORDER BY event_time, event_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS session
  FROM marked
),
begun AS (
  SELECT
    *,
    min(CASE WHEN event_type = 'page_view' THEN event_time END) OVER (PARTITION BY customer_id, session) AS first_view,
    min(CASE WHEN event_type = 'add_to_cart' THEN event_time END) OVER (PARTITION BY customer_id, session) AS first_cart
  FROM numbered
),
stepped AS (
  SELECT
    *,
    min(CASE WHEN event_type = 'add_to_cart' AND event_time >= first_view THEN event_time END) OVER (PARTITION BY customer_id, session) AS cart_after_view
  FROM begun
),
sessions AS (
  SELECT
    customer_id,
    min(event_time) AS first_event,
    max(event_time) AS last_event,
    min(country) AS country,
    count(*) AS events,
    count(*) FILTER (WHERE event_type = 'page_view') AS views,
    count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
    count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
    coalesce(sum(quantity * unit_price) FILTER (WHERE event_type = 'purchase'), 0) AS revenue,
    CASE
      WHEN count(*) FILTER (WHERE event_type = 'purchase' AND event_time >= cart_after_view) > 0 THEN 3
      WHEN min(cart_after_view) IS NOT NULL THEN 2
      WHEN min(first_view) IS NOT NULL THEN 1
      ELSE 0
    END AS funnel_depth,
    min(first_cart) IS NOT NULL AND count(*) FILTER (WHERE event_type = 'purchase' AND event_time >= first_cart) = 0 AS is_abandoned,
    coalesce(sum(CASE event_type WHEN 'add_to_cart' THEN quantity * unit_price WHEN 'remove_from_cart' THEN -quantity * unit_price END), 0) AS left_in_cart
  FROM stepped
  GROUP BY customer_id, session
)
SELECT
  customer_id,
  first_event,
  last_event,
  CAST(first_event AS DATE) AS session_date,
  CAST(date_part('epoch', last_event) - date_part('epoch', first_event) AS DOUBLE) AS seconds,
  country,
  events,
  views,
  carts,
  purchases,
  CAST(revenue AS DECIMAL(28, 4)) AS revenue,
  CAST(funnel_depth AS INT) AS funnel_depth,
  is_abandoned,
  CAST(CASE WHEN is_abandoned THEN left_in_cart ELSE 0 END AS DECIMAL(28, 4)) AS value_left_in_cart
FROM sessions
