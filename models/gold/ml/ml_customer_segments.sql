-- title: Customer segments
-- grain: one customer of one source
-- key: source, customer_id
-- unit: days, orders, money in the shop's currency
-- definition: k-means over the scaled logarithms of recency, frequency and monetary; 3 to 8 segments, so many as give the best silhouette. A segment keeps its id from run to run; its name says where its centre lies: active (90 days or less since the last order), lapsing (180 or less), lost; one-time, repeat, loyal (5 orders or more).
-- source: P. Rousseeuw, Silhouettes, J. Computational and Applied Mathematics 20, 1987; A. Hughes, Strategic Database Marketing, 1994
-- learn: segments
SELECT source, customer_id, recency_days, frequency, monetary
FROM gold.kpi_rfm
ORDER BY source, customer_id
