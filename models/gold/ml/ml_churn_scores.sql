-- title: Churn scores
-- grain: one customer of one source
-- key: source, customer_id
-- unit: probability
-- definition: churn_probability = probability of no order in the 90 days after the source's last order. Learnt from what was known of customers at earlier days and what they did in the 90 days after: by a logistic regression and by a random forest, of which the one is kept that ranks a later quarter better (AUC); calibrated by Platt's method. Customers with an order only.
-- source: P. Fader, B. Hardie, Probability models for customer-base analysis, J. Interactive Marketing 23(1), 2009; J. Platt, Probabilistic outputs for support vector machines, 1999
-- learn: churn
WITH days AS (
  SELECT source, customer_id, CAST(order_time AS DATE) AS day, sum(amount) AS revenue
  FROM gold.fact_orders
  WHERE customer_id IS NOT NULL
  GROUP BY source, customer_id, CAST(order_time AS DATE)
),
ends AS (
  SELECT source, CAST(max(day) AS INT) + 1 AS ending FROM days GROUP BY source
),
-- Each label window ends where the next snapshot begins.
snapshots AS (
  SELECT source, 'train' AS snapshot, ending, ending - 270 AS cutoff FROM ends
  UNION ALL
  SELECT source, 'calibrate' AS snapshot, ending, ending - 180 AS cutoff FROM ends
  UNION ALL
  SELECT source, 'test' AS snapshot, ending, ending - 90 AS cutoff FROM ends
  UNION ALL
  SELECT source, 'score' AS snapshot, ending, ending AS cutoff FROM ends
),
known AS (
  SELECT
    d.source,
    d.customer_id,
    s.snapshot,
    s.cutoff,
    s.ending,
    s.cutoff - CAST(max(d.day) FILTER (WHERE CAST(d.day AS INT) < s.cutoff) AS INT) AS recency_days,
    s.cutoff - CAST(min(d.day) FILTER (WHERE CAST(d.day AS INT) < s.cutoff) AS INT) AS tenure_days,
    count(*) FILTER (WHERE CAST(d.day AS INT) < s.cutoff) AS order_days,
    sum(d.revenue) FILTER (WHERE CAST(d.day AS INT) < s.cutoff) AS revenue,
    count(*) FILTER (WHERE CAST(d.day AS INT) BETWEEN s.cutoff - 90 AND s.cutoff - 1) AS order_days_90,
    coalesce(sum(d.revenue) FILTER (WHERE CAST(d.day AS INT) BETWEEN s.cutoff - 180 AND s.cutoff - 1), 0) AS revenue_180,
    count(*) FILTER (WHERE CAST(d.day AS INT) BETWEEN s.cutoff AND s.cutoff + 89) AS order_days_after
  FROM days d JOIN snapshots s ON d.source = s.source
  GROUP BY d.source, d.customer_id, s.snapshot, s.cutoff, s.ending
)
SELECT
  source,
  customer_id,
  snapshot,
  CAST(cutoff AS DATE) AS cutoff,
  CASE WHEN cutoff < ending THEN order_days_after = 0 END AS churned,
  CAST(recency_days AS DOUBLE) AS recency_days,
  CAST(tenure_days AS DOUBLE) AS tenure_days,
  CAST(order_days AS DOUBLE) AS order_days,
  CAST(revenue AS DOUBLE) AS revenue,
  order_days * 30.0 / tenure_days AS order_days_per_month,
  CAST(recency_days AS DOUBLE) / tenure_days AS recency_share,
  recency_days / CASE WHEN order_days > 1 THEN (tenure_days - recency_days) / (order_days - 1.0) ELSE tenure_days END AS recency_gaps,
  CAST(order_days_90 AS DOUBLE) AS order_days_90,
  CAST(revenue_180 AS DOUBLE) AS revenue_180
FROM known
WHERE order_days > 0
ORDER BY source, snapshot, customer_id
