-- title: Activity
-- grain: 1 minute by event type and country
-- unit: events, distinct customers, items, revenue in the shop's currency
-- definition: Events of each type; customers are distinct non-null customer_id; revenue = sum of quantity x unit_price over purchases.
-- source: T. Akidau et al., The Dataflow Model, PVLDB 8(12), 2015 (tumbling windows)
SELECT
  event_type,
  country,
  count(*) AS events,
  distinct_count(customer_id) AS customers,
  sum(quantity) AS quantity,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue
FROM events
GROUP BY tumble(event_time, INTERVAL '1 minute'), event_type, country
