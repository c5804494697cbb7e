-- title: Revenue by month, of the rows of silver
-- key: source, month
SELECT
  source,
  to_char(date_trunc('month', order_time), '%Y-%m') AS month,
  sum(amount) AS revenue,
  count(*) AS orders,
  count(DISTINCT customer_id) AS customers,
  CAST(sum(amount) AS DOUBLE) / count(*) AS aov
FROM order_lines
GROUP BY source, date_trunc('month', order_time)
