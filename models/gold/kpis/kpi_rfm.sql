-- title: Recency, frequency, monetary
-- grain: one customer of one source
-- key: source, customer_id
-- unit: days, orders, money, scores 1 to 5
-- definition: recency = days from the last order to the day after the source's last order; frequency = orders; monetary = revenue. Scores are NTILE(5), ties by customer_id; 5 is best.
-- source: A. Hughes, Strategic Database Marketing, 1994; ISO/IEC 9075-2 (NTILE)
WITH reference AS (
  SELECT source, CAST(date_trunc('day', max(order_time)) AS DATE) + INTERVAL '1 day' AS day FROM orders GROUP BY source
),
customers AS (
  SELECT
    o.source,
    o.customer_id,
    CAST(CAST(r.day AS INT) - CAST(CAST(max(o.order_time) AS DATE) AS INT) AS BIGINT) AS recency_days,
    count(DISTINCT o.order_id) AS frequency,
    sum(o.amount) AS monetary
  FROM orders o JOIN reference r ON o.source = r.source
  WHERE o.customer_id IS NOT NULL
  GROUP BY o.source, o.customer_id, r.day
),
scored AS (
  SELECT
    *,
    CAST(ntile(5) OVER (PARTITION BY source ORDER BY recency_days DESC, customer_id) AS INT) AS r,
    CAST(ntile(5) OVER (PARTITION BY source ORDER BY frequency, customer_id) AS INT) AS f,
    CAST(ntile(5) OVER (PARTITION BY source ORDER BY monetary, customer_id) AS INT) AS m
  FROM customers
)
SELECT s.source, s.customer_id, s.recency_days, s.frequency, s.monetary, s.r, s.f, s.m, d.segment
FROM scored s JOIN gold.dim_rfm d ON s.r = d.r AND s.f = d.f AND s.m = d.m
