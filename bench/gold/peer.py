"""What the peers have in common: the tables and their order, the arguments, and a line on each table made.

    <engine>_tables.py INPUTS RESULTS TABLE...

INPUTS has the Parquet files of silver in orders/ and customers/; each table goes to RESULTS/<table>/*.parquet.
"""
import inspect
import os
import sys
import time

# Each after those it reads.
TABLES = ("dim_sources dim_dates dim_products dim_rfm dim_customers fact_orders fact_revenue_hour fact_revenue_day fact_revenue_week "
          "fact_revenue_month fact_revenue_hour_of_day fact_revenue_country kpi_products kpi_rfm kpi_retention kpi_growth "
          "kpi_clv kpi_customers kpi_overview analytics_cohorts analytics_concentration analytics_distribution "
          "analytics_seasonality").split()
FIVE = "fact_revenue_month fact_revenue_country kpi_products dim_rfm kpi_rfm analytics_concentration".split()


def segment(r, f, m):
    if r >= 4 and f >= 4 and m >= 4:
        return "champions"
    if r >= 3 and f >= 4:
        return "loyal"
    if r >= 4 and f <= 2:
        return "new"
    if r >= 3:
        return "promising"
    if r == 2 and f >= 3:
        return "at risk"
    if r == 1 and f >= 4:
        return "cannot lose"
    return "about to sleep" if r == 2 else "lost"


def segments():
    """Rows of dim_rfm: r, f, m, segment."""
    scores = range(1, 6)
    return [(r, f, m, segment(r, f, m)) for r in scores for f in scores for m in scores]


def arguments():
    """The folder of the inputs, that of the results, and the names of the tables to make."""
    inputs, results, *names = sys.argv[1:]
    return inputs, results, names


def reads(method):
    """The tables that a method takes."""
    return list(inspect.signature(method).parameters)


def make(results, names, write):
    """Has each table written by `write(name, file)`, which returns its number of rows."""
    for name in names:
        began = time.monotonic()
        os.makedirs(os.path.join(results, name), exist_ok=True)
        rows = write(name, os.path.join(results, name, "part.parquet"))
        print("gold.%-26s %10d rows  %.3fs" % (name, rows, time.monotonic() - began), flush=True)
