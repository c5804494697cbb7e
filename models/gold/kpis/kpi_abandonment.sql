-- title: Abandoned carts
-- grain: one UTC day in which sessions begin
-- key: day
-- unit: sessions, rates, money in the shop's currency
-- definition: abandonment_rate = abandoned sessions / sessions with a cart; value_left = what was put into the abandoned carts, less what was taken out; recovered = abandoned sessions whose customer buys in a later session that begins within 7 days of the abandoned one's end.
-- source: M. Kukar-Kinney, A. Close, The determinants of consumers' online shopping cart abandonment, J. Academy of Marketing Science 38(2), 2010
WITH bought_again AS (
  SELECT a.customer_id, a.first_event
  FROM gold.fact_sessions a
  JOIN gold.fact_sessions b ON a.customer_id = b.customer_id AND b.first_event > a.last_event
  WHERE a.is_abandoned AND b.purchases > 0 AND b.first_event <= a.last_event + INTERVAL '7 days'
  GROUP BY a.customer_id, a.first_event
)
SELECT
  s.session_date AS day,
  count(*) AS carted,
  count(*) FILTER (WHERE s.is_abandoned) AS abandoned,
  CAST(count(*) FILTER (WHERE s.is_abandoned) AS DOUBLE) / count(*) AS abandonment_rate,
  sum(s.value_left_in_cart) AS value_left,
  CAST(sum(s.value_left_in_cart) AS DOUBLE) / nullif(count(*) FILTER (WHERE s.is_abandoned), 0) AS value_left_each,
  count(b.customer_id) AS recovered,
  CAST(count(b.customer_id) AS DOUBLE) / nullif(count(*) FILTER (WHERE s.is_abandoned), 0) AS recovery_rate
FROM gold.fact_sessions s
LEFT JOIN bought_again b ON s.customer_id = b.customer_id AND s.first_event = b.first_event
WHERE s.carts > 0
GROUP BY s.session_date
