"""The gold tables by PySpark: the DataFrame API, orders cached, one local process with all cores. See peer.py."""
import os

from pyspark.sql import Observation, SparkSession, Window
from pyspark.sql import functions as F

import peer

SETTINGS = {
    "spark.driver.memory": "8g",
    "spark.sql.shuffle.partitions": 2 * os.cpu_count(),
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": 1,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
# Before the columns below, which need one.
SPARK = SparkSession.builder.master("local[*]").config(map=SETTINGS).getOrCreate()

REVENUE = F.sum("amount").alias("revenue")
ORDERS, CUSTOMERS = F.count("*").alias("orders"), F.count_distinct("customer_id").alias("customers")
FIRST, LAST = F.min("order_time"), F.max("order_time")
ALL = Window.partitionBy()


def real(column):
    return F.col(column).cast("double")


def over(column, count):
    return real(column) / F.col(count)


def months(first, last):
    """From the month of `first` to that of `last`."""
    return ((F.year(last) - F.year(first)) * 12 + F.month(last) - F.month(first)).cast("long")


def week(day):
    """As of ISO 8601: its year is that of its Thursday."""
    thursday = F.date_add(F.date_trunc("week", day), 3)
    return F.concat(F.year(thursday), F.lit("-W"), F.lpad(F.weekofyear(thursday).cast("string"), 2, "0"))


def pooled(retention):
    return retention.select((F.sum("retained_next") / F.sum("active")).alias("monthly_retention"))


class Tables:
    """A method for each table: of what it reads, the query that makes it."""

    def __init__(self, inputs):
        self.customers = SPARK.read.parquet(f"{inputs}/customers").select("customer_id", "country", "signup_date")
        orders = SPARK.read.parquet(f"{inputs}/orders").join(self.customers, "customer_id")
        self.orders = orders.select("order_id", "customer_id", "country", "order_time", "product", "amount").cache()

    def active(self):
        return self.orders.select("customer_id", F.trunc("order_time", "month").alias("month")).distinct()

    def revenue_by(self, name, key):
        by_key = self.orders.groupBy(key.alias(name)).agg(REVENUE, ORDERS, CUSTOMERS)
        return by_key.withColumn("aov", over("revenue", "orders"))

    def dim_sources(self):
        sources = self.orders.agg(FIRST.alias("first_order"), LAST.alias("last_order"), ORDERS, REVENUE)
        return sources.withColumn("reference_day", F.date_add(F.to_date("last_order"), 1))

    def dim_dates(self):
        day = F.col("day")
        weekday = F.weekday(day) + 1
        days = self.orders.select(F.sequence(F.to_date(FIRST), F.to_date(LAST)).alias("days"))
        return days.select(F.explode("days").alias("day")).select(
            "day", F.year(day).alias("year"), F.quarter(day).alias("quarter"), F.month(day).alias("month_of_year"),
            F.date_format(day, "yyyy-MM").alias("month"), week(day).alias("week"), weekday.alias("iso_weekday"),
            (weekday >= 6).alias("is_weekend"))

    def dim_products(self):
        sold = self.orders.groupBy("product").agg(FIRST.alias("first_sold"), LAST.alias("last_sold"))
        return sold.withColumn("category", F.lit(None).cast("string"))

    def dim_rfm(self):
        return SPARK.sql("SELECT * FROM VALUES %s AS t (r, f, m, segment)" % ", ".join(map(str, peer.segments())))

    def dim_customers(self):
        bought = self.orders.groupBy("customer_id").agg(
            FIRST.alias("first_order"), LAST.alias("last_order"), ORDERS, REVENUE)
        return self.customers.join(bought, "customer_id", "left").fillna(0, ["orders", "revenue"])

    def fact_orders(self):
        return self.orders.drop("product").withColumns({
            "last_line_time": F.col("order_time"), "order_date": F.to_date("order_time"), "lines": F.lit(1).cast("long")})

    def fact_revenue_hour(self):
        return self.revenue_by("hour", F.date_trunc("hour", "order_time"))

    def fact_revenue_day(self):
        return self.revenue_by("day", F.to_date("order_time"))

    def fact_revenue_week(self):
        by_week = self.revenue_by("monday", F.date_trunc("week", "order_time"))
        return by_week.withColumn("week", week(F.col("monday"))).drop("monday")

    def fact_revenue_month(self):
        return self.revenue_by("month", F.trunc("order_time", "month")).withColumn("month", F.date_format("month", "yyyy-MM"))

    def fact_revenue_hour_of_day(self):
        return self.revenue_by("hour_of_day", F.hour("order_time"))

    def fact_revenue_country(self):
        return self.revenue_by("country", F.col("country"))

    def kpi_products(self):
        sold = self.orders.groupBy("product").agg(REVENUE, ORDERS, CUSTOMERS)
        rank = F.row_number().over(Window.orderBy(F.desc("revenue"), "product"))
        share = real("revenue") / F.sum("revenue").over(ALL).cast("double")
        return sold.select("*", rank.alias("rank"), share.alias("revenue_share"))

    def kpi_rfm(self, dim_rfm):
        bought = self.orders.groupBy("customer_id").agg(
            F.to_date(LAST).alias("last_day"), ORDERS.alias("frequency"), F.sum("amount").alias("monetary"))
        recency = F.date_diff(F.max("last_day").over(ALL), "last_day").cast("long") + 1
        scores = [F.ntile(5).over(Window.orderBy(column, "customer_id")).alias(score)
                  for score, column in (("r", "last_day"), ("f", "frequency"), ("m", "monetary"))]
        scored = bought.select("customer_id", recency.alias("recency_days"), "frequency", "monetary", *scores)
        return scored.join(F.broadcast(dim_rfm), ["r", "f", "m"])

    def kpi_retention(self):
        active = self.active()
        before = active.select("customer_id", F.add_months("month", -1).alias("month"), F.lit(1).alias("is_back"))
        last = self.orders.select(F.trunc(LAST, "month").alias("last"))
        joined = active.join(F.broadcast(last), active["month"] < last["last"]).join(before, ["customer_id", "month"], "left")
        by_month = joined.groupBy("month").agg(F.count("*").alias("active"), F.count("is_back").alias("retained_next"))
        rate = F.col("retained_next") / F.col("active")
        return by_month.withColumn("month", F.date_format("month", "yyyy-MM")).withColumn("rate", rate)

    def kpi_growth(self, dim_dates, fact_revenue_month):
        all_months = dim_dates.select("month").distinct()
        filled = all_months.join(fact_revenue_month.select("month", "revenue"), "month", "left").fillna(0, "revenue")
        compared = filled.withColumn("previous", F.lag("revenue").over(Window.orderBy("month")))
        growth = (F.col("revenue") - F.col("previous")).cast("double") / F.nullif(real("previous"), F.lit(0.0))
        return compared.withColumn("growth", growth)

    def kpi_clv(self, kpi_retention):
        bought = self.orders.groupBy("customer_id").agg(
            F.sum("amount").alias("historic"), ORDERS, FIRST.alias("first_order"), LAST.alias("last_order"))
        observed = months(F.col("first_order"), F.max("last_order").over(ALL)) + 1
        monthly = bought.select(
            "customer_id", "historic", "orders", F.date_format("first_order", "yyyy-MM").alias("first_month"),
            observed.alias("months_observed")).withColumn("monthly_value", over("historic", "months_observed"))
        retention = F.col("monthly_retention")
        predictive = F.col("monthly_value") * retention / (1.01 - retention)
        with_retention = monthly.crossJoin(F.broadcast(pooled(kpi_retention)))
        return with_retention.withColumn("predictive", predictive).drop("monthly_retention")

    def kpi_customers(self, dim_customers, kpi_rfm, kpi_clv):
        rfm = kpi_rfm.select("customer_id", "recency_days", "r", "f", "m", "segment")
        clv = kpi_clv.select("customer_id", "monthly_value", "predictive")
        return dim_customers.join(rfm, "customer_id").join(clv, "customer_id")

    def kpi_overview(self, kpi_rfm, kpi_retention, kpi_products, fact_revenue_country):
        sales = self.orders.agg(REVENUE, ORDERS, FIRST.alias("first_order"), LAST.alias("last_order"))
        products = kpi_products.agg(F.count("*").alias("products"))
        countries = fact_revenue_country.agg(F.count("*").alias("countries"))
        buyers = kpi_rfm.agg(
            F.count("*").alias("customers"), F.count_if(F.col("frequency") >= 2).alias("repeat_customers"),
            F.count_if(F.col("recency_days") > 90).alias("churned"))
        sold = sales.crossJoin(products).crossJoin(countries)
        return sold.crossJoin(buyers).crossJoin(pooled(kpi_retention)).withColumns({
            "aov": over("revenue", "orders"), "arpu": over("revenue", "customers"),
            "repeat_rate": over("repeat_customers", "customers"), "churn_rate": over("churned", "customers")})

    def analytics_cohorts(self):
        begun = self.active().withColumn("cohort", F.min("month").over(Window.partitionBy("customer_id")))
        seen = begun.groupBy("cohort", months(F.col("cohort"), F.col("month")).alias("period")).agg(F.count("*").alias("active"))
        seen = seen.cache()
        last = self.orders.select(F.trunc(LAST, "month").alias("last"))
        periods = seen.where("period = 0").crossJoin(F.broadcast(last)).select(
            "cohort", F.col("active").alias("cohort_size"),
            F.explode(F.sequence(F.lit(0).cast("long"), months(F.col("cohort"), F.col("last")))).alias("period"))
        filled = periods.join(seen, ["cohort", "period"], "left").fillna(0, "active")
        return filled.withColumn("cohort", F.date_format("cohort", "yyyy-MM")).withColumn(
            "retention", over("active", "cohort_size"))

    def analytics_concentration(self, kpi_rfm):
        most = Window.orderBy(F.desc("monetary"), "customer_id")
        n, monetary = F.count("*"), F.sum("monetary").cast("double")
        gini = 2 * F.sum(real("monetary") * F.col("from_least")) / (n * monetary) - (n + 1) / n
        ranked = kpi_rfm.select(
            "monetary", F.count("*").over(ALL).alias("n"), F.sum("monetary").over(ALL).alias("total"),
            F.row_number().over(Window.orderBy("monetary", "customer_id")).alias("from_least"),
            F.row_number().over(most).alias("from_most"),
            F.sum("monetary").over(most.rowsBetween(Window.unboundedPreceding, Window.currentRow)).alias("upto"))

        def share(part):
            of_most = F.when(F.col("from_most") <= F.ceil(F.lit(part) * F.col("n")), F.col("monetary"))
            return F.sum(of_most).cast("double") / monetary

        return ranked.agg(
            n.alias("customers"), gini.alias("gini"), F.ceil(F.lit(0.2) * n).alias("top20_customers"),
            share(0.2).alias("top20_revenue_share"), share(0.01).alias("top1_revenue_share"),
            F.min(F.when(F.col("upto") * 10 >= F.col("total") * 8, F.col("from_most"))).alias("customers_for_80_percent"))

    def analytics_distribution(self, fact_orders):
        ranked = fact_orders.select("amount", F.ntile(10).over(Window.orderBy("amount", "order_id")).alias("tenth"))
        by_tenth = ranked.groupBy("tenth").agg(
            F.count("*").alias("orders"), F.min("amount").alias("least"), F.max("amount").alias("most"), REVENUE)
        return by_tenth.withColumn("mean", over("revenue", "orders"))

    def analytics_seasonality(self, dim_dates, fact_revenue_day):
        days = dim_dates.join(fact_revenue_day.select("day", "revenue"), "day", "left").fillna(0, "revenue")
        days = days.withColumn("all_days", F.avg(real("revenue")).over(ALL))
        weekdays = days.select(F.lit("weekday").alias("season"), F.col("iso_weekday").alias("part"), "revenue", "all_days")
        seasons = weekdays.union(days.select(F.lit("month"), "month_of_year", "revenue", "all_days"))
        parts = seasons.groupBy("season", "part", "all_days").agg(F.count("*").alias("days"), F.sum("revenue").alias("revenue"))
        mean = parts.withColumn("mean_daily", over("revenue", "days"))
        return mean.withColumn("seasonal_index", F.col("mean_daily") / F.col("all_days")).drop("all_days")


def main():
    inputs, results, names = peer.arguments()
    tables, made = Tables(inputs), {}

    def write(name, file):
        method = getattr(tables, name)
        query = method(*(made[read] for read in peer.reads(method)))
        if name not in ("dim_dates", "dim_rfm"):
            query = query.withColumn("source", F.lit("files"))
        folder = os.path.dirname(file)
        seen = Observation()
        query.observe(seen, F.count("*").alias("rows")).write.parquet(folder, mode="overwrite")
        made[name] = SPARK.read.schema(query.schema).parquet(folder)
        return seen.get["rows"]

    peer.make(results, names, write)
    SPARK.stop()


if __name__ == "__main__":
    main()
