-- title: Recency, frequency, monetary, of the rows of silver
-- key: source, customer_id
WITH bought AS (
  SELECT source, customer_id, CAST(CAST(max(order_time) AS DATE) AS INT) AS last_day, count(*) AS frequency, sum(amount) AS monetary
  FROM order_lines GROUP BY source, customer_id
),
customers AS (
  SELECT
    source,
    customer_id,
    CAST(max(last_day) OVER (PARTITION BY source) + 1 - last_day AS BIGINT) AS recency_days,
    frequency,
    monetary
  FROM bought
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
