"""The gold tables by DuckDB: SQL over one joined table in memory. See peer.py."""
import os

import duckdb

import peer

ORDERS = """
CREATE VIEW customers AS SELECT customer_id, country, signup_date FROM '{0}/customers/*.parquet';
CREATE TABLE orders AS
SELECT order_id, customer_id, country, order_time AT TIME ZONE 'UTC' AS order_time, product, amount
FROM '{0}/orders/*.parquet' JOIN customers USING (customer_id);
CREATE VIEW active AS SELECT DISTINCT customer_id, date_trunc('month', order_time)::DATE AS month FROM orders;
"""


def revenue_by(name, key, shown="{}"):
    return f"""
    SELECT 'files' AS source, {shown.format(key)} AS {name}, sum(amount) AS revenue, count(*) AS orders,
           count(DISTINCT customer_id) AS customers, sum(amount)::DOUBLE / count(*) AS aov
    FROM orders GROUP BY {key}"""


TABLES = {
    "dim_sources": """
        SELECT 'files' AS source, min(order_time) AS first_order, max(order_time) AS last_order,
               max(order_time)::DATE + 1 AS reference_day, count(*) AS orders, sum(amount) AS revenue
        FROM orders""",
    "dim_dates": """
        SELECT day::DATE AS day, year(day)::INT AS year, quarter(day)::INT AS quarter, month(day)::INT AS month_of_year,
               strftime(day, '%Y-%m') AS month, strftime(day, '%G-W%V') AS week, isodow(day)::INT AS iso_weekday,
               isodow(day) >= 6 AS is_weekend
        FROM (SELECT unnest(generate_series(min(order_time)::DATE, max(order_time)::DATE, INTERVAL 1 DAY)) AS day
              FROM orders)""",
    "dim_products": """
        SELECT 'files' AS source, product, NULL::VARCHAR AS category, min(order_time) AS first_sold,
               max(order_time) AS last_sold
        FROM orders GROUP BY product""",
    "dim_rfm": "SELECT * FROM (VALUES %s) AS t (r, f, m, segment)" % ", ".join(map(str, peer.segments())),
    "dim_customers": """
        SELECT 'files' AS source, c.customer_id, c.country, c.signup_date, b.first_order, b.last_order,
               coalesce(b.orders, 0) AS orders, coalesce(b.revenue, 0) AS revenue
        FROM customers c LEFT JOIN (
            SELECT customer_id, min(order_time) AS first_order, max(order_time) AS last_order,
                   count(*) AS orders, sum(amount) AS revenue
            FROM orders GROUP BY customer_id) b USING (customer_id)""",
    "fact_orders": """
        SELECT 'files' AS source, order_id, customer_id, country, order_time, order_time AS last_line_time,
               order_time::DATE AS order_date, 1::BIGINT AS lines, amount
        FROM orders""",
    "fact_revenue_hour": revenue_by("hour", "date_trunc('hour', order_time)"),
    "fact_revenue_day": revenue_by("day", "order_time::DATE"),
    "fact_revenue_week": revenue_by("week", "date_trunc('week', order_time)", "strftime({}, '%G-W%V')"),
    "fact_revenue_month": revenue_by("month", "date_trunc('month', order_time)", "strftime({}, '%Y-%m')"),
    "fact_revenue_hour_of_day": revenue_by("hour_of_day", "hour(order_time)::INT"),
    "fact_revenue_country": revenue_by("country", "country"),
    "kpi_products": """
        SELECT *, revenue::DOUBLE / sum(revenue) OVER ()::DOUBLE AS revenue_share,
               row_number() OVER (ORDER BY revenue DESC, product) AS rank
        FROM (SELECT 'files' AS source, product, sum(amount) AS revenue, count(*) AS orders,
                     count(DISTINCT customer_id) AS customers
              FROM orders GROUP BY product)""",
    "kpi_rfm": """
        WITH bought AS (
            SELECT customer_id, max(order_time)::DATE AS last_day, count(*) AS frequency, sum(amount) AS monetary
            FROM orders GROUP BY customer_id
        ), scored AS (
            SELECT customer_id, max(last_day) OVER () + 1 - last_day AS recency_days, frequency, monetary,
                   ntile(5) OVER (ORDER BY last_day, customer_id) AS r,
                   ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
                   ntile(5) OVER (ORDER BY monetary, customer_id) AS m
            FROM bought
        )
        SELECT 'files' AS source, s.*, d.segment FROM scored s JOIN dim_rfm d USING (r, f, m)""",
    "kpi_retention": """
        SELECT 'files' AS source, strftime(a.month, '%Y-%m') AS month, count(*) AS active,
               count(n.customer_id) AS retained_next, count(n.customer_id) / count(*) AS rate
        FROM active a
        LEFT JOIN active n ON n.customer_id = a.customer_id AND n.month = (a.month + INTERVAL 1 MONTH)::DATE
        WHERE a.month < (SELECT date_trunc('month', max(order_time)) FROM orders)
        GROUP BY a.month""",
    "kpi_growth": """
        WITH filled AS (
            SELECT month, coalesce(revenue, 0) AS revenue
            FROM (SELECT DISTINCT month FROM dim_dates) LEFT JOIN fact_revenue_month USING (month)
        )
        SELECT 'files' AS source, month, revenue, lag(revenue) OVER (ORDER BY month) AS previous,
               (revenue - previous)::DOUBLE / nullif(previous::DOUBLE, 0) AS growth
        FROM filled""",
    "kpi_clv": """
        WITH bought AS (
            SELECT customer_id, sum(amount) AS historic, count(*) AS orders, min(order_time) AS first_order,
                   date_diff('month', first_order, (SELECT max(order_time) FROM orders)) + 1 AS months_observed
            FROM orders GROUP BY customer_id
        ), pooled AS (
            SELECT sum(retained_next) / sum(active) AS retention FROM kpi_retention
        )
        SELECT 'files' AS source, customer_id, historic, orders, strftime(first_order, '%Y-%m') AS first_month,
               months_observed, historic::DOUBLE / months_observed AS monthly_value,
               monthly_value * retention / (1.01 - retention) AS predictive
        FROM bought, pooled""",
    "kpi_customers": """
        SELECT d.*, r.recency_days, r.r, r.f, r.m, r.segment, c.monthly_value, c.predictive
        FROM dim_customers d JOIN kpi_rfm r USING (customer_id) JOIN kpi_clv c USING (customer_id)""",
    "kpi_overview": """
        WITH sales AS (
            SELECT sum(amount) AS revenue, count(*) AS orders, (SELECT count(*) FROM kpi_products) AS products,
                   (SELECT count(*) FROM fact_revenue_country) AS countries, min(order_time) AS first_order,
                   max(order_time) AS last_order
            FROM orders
        ), buyers AS (
            SELECT count(*) AS customers, count(*) FILTER (frequency >= 2) AS repeat_customers,
                   count(*) FILTER (recency_days > 90) AS churned
            FROM kpi_rfm
        ), pooled AS (
            SELECT sum(retained_next) / sum(active) AS monthly_retention FROM kpi_retention
        )
        SELECT 'files' AS source, revenue, orders, customers, products, countries, revenue::DOUBLE / orders AS aov,
               revenue::DOUBLE / customers AS arpu, first_order, last_order, repeat_customers,
               repeat_customers / customers AS repeat_rate, churned, churned / customers AS churn_rate, monthly_retention
        FROM sales, buyers, pooled""",
    "analytics_cohorts": """
        WITH begun AS (
            SELECT month, min(month) OVER (PARTITION BY customer_id) AS cohort FROM active
        ), seen AS (
            SELECT cohort, date_diff('month', cohort, month) AS period, count(*) AS active FROM begun GROUP BY ALL
        ), periods AS (
            SELECT cohort, active AS cohort_size,
                   unnest(range(date_diff('month', cohort, (SELECT max(month) FROM begun)) + 1)) AS period
            FROM seen WHERE period = 0
        )
        SELECT 'files' AS source, strftime(cohort, '%Y-%m') AS cohort, period, cohort_size,
               coalesce(active, 0) AS active, coalesce(active, 0) / cohort_size AS retention
        FROM periods LEFT JOIN seen USING (cohort, period)""",
    "analytics_concentration": """
        WITH ranked AS (
            SELECT monetary, count(*) OVER () AS n, sum(monetary) OVER () AS total,
                   row_number() OVER (ORDER BY monetary, customer_id) AS from_least,
                   row_number() OVER most AS from_most, sum(monetary) OVER (most ROWS UNBOUNDED PRECEDING) AS upto
            FROM kpi_rfm WINDOW most AS (ORDER BY monetary DESC, customer_id)
        )
        SELECT 'files' AS source, count(*) AS customers,
               2 * sum(monetary::DOUBLE * from_least) / (count(*) * sum(monetary)::DOUBLE) - (count(*) + 1) / count(*) AS gini,
               ceil(0.2 * count(*))::BIGINT AS top20_customers,
               sum(monetary) FILTER (from_most <= ceil(0.2 * n))::DOUBLE / sum(monetary)::DOUBLE AS top20_revenue_share,
               sum(monetary) FILTER (from_most <= ceil(0.01 * n))::DOUBLE / sum(monetary)::DOUBLE AS top1_revenue_share,
               min(from_most) FILTER (upto * 10 >= total * 8) AS customers_for_80_percent
        FROM ranked""",
    "analytics_distribution": """
        WITH ranked AS (SELECT amount, ntile(10) OVER (ORDER BY amount, order_id) AS tenth FROM fact_orders)
        SELECT 'files' AS source, tenth, count(*) AS orders, min(amount) AS least, max(amount) AS most,
               sum(amount) AS revenue, sum(amount)::DOUBLE / count(*) AS mean
        FROM ranked GROUP BY tenth""",
    "analytics_seasonality": """
        WITH days AS (
            SELECT iso_weekday, month_of_year, coalesce(revenue, 0) AS revenue
            FROM dim_dates LEFT JOIN fact_revenue_day USING (day)
        ), seasons AS (
            SELECT 'weekday' AS season, iso_weekday AS part, revenue FROM days
            UNION ALL
            SELECT 'month' AS season, month_of_year AS part, revenue FROM days
        )
        SELECT 'files' AS source, season, part, count(*) AS days, sum(revenue) AS revenue,
               sum(revenue)::DOUBLE / count(*) AS mean_daily,
               mean_daily / (SELECT sum(revenue)::DOUBLE / count(*) FROM days) AS seasonal_index
        FROM seasons GROUP BY season, part""",
}


def main():
    inputs, results, names = peer.arguments()
    database = duckdb.connect()
    database.execute(f"SET threads = {os.cpu_count()}; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    database.execute(ORDERS.format(inputs))

    def write(name, file):
        # The orders are in memory already.
        kind = "VIEW" if name == "fact_orders" else "TABLE"
        database.execute(f"CREATE {kind} {name} AS {TABLES[name]}")
        rows, = database.execute(f"COPY {name} TO '{file}' (COMPRESSION zstd, COMPRESSION_LEVEL 1)").fetchone()
        return rows

    peer.make(results, names, write)


if __name__ == "__main__":
    main()
