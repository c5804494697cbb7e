-- title: Concentration of revenue
-- grain: one source
-- key: source
-- unit: customers, shares
-- definition: gini = 2 * sum(i * x_i) / (n * sum(x)) - (n + 1) / n over customers by revenue; top20: the ceil(0.2 n) customers of highest revenue, ties by customer_id; customers_for_80_percent: the least number of them with 0.8 of the revenue.
-- source: C. Damgaard, J. Weiner, Describing inequality in plant size or fecundity, Ecology 81(4), 2000; J. Juran, Quality Control Handbook, 1951
WITH ranked AS (
  SELECT
    source,
    monetary,
    count(*) OVER (PARTITION BY source) AS n,
    row_number() OVER (PARTITION BY source ORDER BY monetary, customer_id) AS from_least,
    row_number() OVER (PARTITION BY source ORDER BY monetary DESC, customer_id) AS from_most,
    sum(monetary) OVER (PARTITION BY source) AS total,
    sum(monetary) OVER (PARTITION BY source ORDER BY monetary DESC, customer_id ROWS UNBOUNDED PRECEDING) AS upto
  FROM gold.kpi_rfm
)
SELECT
  source,
  CAST(max(n) AS BIGINT) AS customers,
  2.0 * sum(CAST(monetary AS DOUBLE) * from_least) / nullif(max(n) * CAST(sum(monetary) AS DOUBLE), 0)
    - (max(n) + 1.0) / max(n) AS gini,
  CAST(ceil(0.2 * max(n)) AS BIGINT) AS top20_customers,
  CAST(sum(monetary) FILTER (WHERE from_most <= ceil(0.2 * n)) AS DOUBLE) / nullif(CAST(sum(monetary) AS DOUBLE), 0) AS top20_revenue_share,
  CAST(sum(monetary) FILTER (WHERE from_most <= ceil(0.01 * n)) AS DOUBLE) / nullif(CAST(sum(monetary) AS DOUBLE), 0) AS top1_revenue_share,
  CAST(min(from_most) FILTER (WHERE upto * 10 >= total * 8) AS BIGINT) AS customers_for_80_percent
FROM ranked
GROUP BY source
