"""The gold tables by Polars: lazy queries over one joined frame in memory, some texts as categories. See peer.py."""
import polars as pl

import peer

TIME, REVENUE = pl.col("order_time"), pl.col("amount").sum()
ORDERS, CUSTOMERS = pl.len(), pl.col("customer_id").n_unique()
MONTH = TIME.dt.truncate("1mo").dt.date()


def real(column):
    return pl.col(column).cast(pl.Float64)


def months(first, last):
    """From the month of `first` to that of `last`."""
    return (last.dt.year() - first.dt.year()).cast(pl.Int64) * 12 + last.dt.month() - first.dt.month()


def ntile(tiles, position):
    """As of SQL: the first `len % tiles` tiles hold one more. `position` is counted from 0."""
    size, more, position = pl.len() // tiles, pl.len() % tiles, position.cast(pl.Int64)
    return (pl.max_horizontal(position // (size + 1), (position - more) // size) + 1).cast(pl.Int32)


class Tables:
    """A method for each table: of what it reads, the query that makes it."""

    def __init__(self, inputs):
        customers = pl.scan_parquet(f"{inputs}/customers/*.parquet").select("customer_id", "country", "signup_date")
        self.customers = customers.with_columns(pl.col("customer_id", "country").cast(pl.Categorical))
        orders = pl.scan_parquet(f"{inputs}/orders/*.parquet")
        orders = orders.select("order_id", pl.col("customer_id", "product").cast(pl.Categorical), "order_time", "amount")
        orders = orders.join(self.customers, on="customer_id").drop("signup_date")
        self.orders = orders.collect(engine="streaming").lazy()

    def active(self):
        return self.orders.select("customer_id", month=MONTH).unique()

    def revenue_by(self, **key):
        by_key = self.orders.group_by(**key).agg(revenue=REVENUE, orders=ORDERS, customers=CUSTOMERS)
        return by_key.with_columns(aov=real("revenue") / pl.col("orders"))

    def dim_sources(self):
        return self.orders.select(
            first_order=TIME.min(), last_order=TIME.max(), reference_day=TIME.max().dt.date() + pl.duration(days=1),
            orders=ORDERS, revenue=REVENUE)

    def dim_dates(self):
        day, weekday = pl.col("day"), pl.col("day").dt.weekday().cast(pl.Int32)
        days = pl.date_ranges(TIME.min().dt.date(), TIME.max().dt.date()).explode(empty_as_null=False)
        return self.orders.select(day=days).with_columns(
            year=day.dt.year(), quarter=day.dt.quarter().cast(pl.Int32), month_of_year=day.dt.month().cast(pl.Int32),
            month=day.dt.strftime("%Y-%m"), week=day.dt.strftime("%G-W%V"), iso_weekday=weekday, is_weekend=weekday >= 6)

    def dim_products(self):
        sold = self.orders.group_by("product").agg(first_sold=TIME.min(), last_sold=TIME.max())
        return sold.with_columns(category=pl.lit(None, pl.String))

    def dim_rfm(self):
        return pl.LazyFrame(peer.segments(), schema=dict(r=pl.Int32, f=pl.Int32, m=pl.Int32, segment=pl.String), orient="row")

    def dim_customers(self):
        bought = self.orders.group_by("customer_id").agg(
            first_order=TIME.min(), last_order=TIME.max(), orders=ORDERS, revenue=REVENUE)
        joined = self.customers.join(bought, on="customer_id", how="left")
        return joined.with_columns(pl.col("orders", "revenue").fill_null(0))

    def fact_orders(self):
        return self.orders.drop("product").with_columns(
            last_line_time=TIME, order_date=TIME.dt.date(), lines=pl.lit(1, pl.Int64))

    def fact_revenue_hour(self):
        return self.revenue_by(hour=TIME.dt.truncate("1h"))

    def fact_revenue_day(self):
        return self.revenue_by(day=TIME.dt.date())

    def fact_revenue_week(self):
        return self.revenue_by(week=TIME.dt.truncate("1w")).with_columns(pl.col("week").dt.strftime("%G-W%V"))

    def fact_revenue_month(self):
        return self.revenue_by(month=MONTH).with_columns(pl.col("month").dt.strftime("%Y-%m"))

    def fact_revenue_hour_of_day(self):
        return self.revenue_by(hour_of_day=TIME.dt.hour().cast(pl.Int32))

    def fact_revenue_country(self):
        return self.revenue_by(country=pl.col("country"))

    def kpi_products(self):
        sold = self.orders.group_by("product").agg(revenue=REVENUE, orders=ORDERS, customers=CUSTOMERS)
        ranked = sold.sort("revenue", "product", descending=[True, False]).with_row_index("rank", 1)
        return ranked.with_columns(revenue_share=real("revenue") / real("revenue").sum())

    def kpi_rfm(self, dim_rfm):
        day = TIME.max().dt.date()
        bought = self.orders.group_by("customer_id").agg(last_day=day, frequency=ORDERS, monetary=REVENUE).sort("customer_id")
        scores = {score: ntile(5, pl.col(column).rank("ordinal") - 1)
                  for score, column in (("r", "last_day"), ("f", "frequency"), ("m", "monetary"))}
        recency = (pl.col("last_day").max() - pl.col("last_day")).dt.total_days() + 1
        return bought.with_columns(recency_days=recency, **scores).drop("last_day").join(dim_rfm, on=["r", "f", "m"])

    def kpi_retention(self):
        active = self.active()
        before = active.with_columns(pl.col("month").dt.offset_by("-1mo"), is_back=True)
        by_month = active.filter(pl.col("month") < pl.col("month").max()).join(
            before, on=["customer_id", "month"], how="left").group_by("month").agg(
            active=pl.len(), retained_next=pl.col("is_back").count())
        return by_month.with_columns(pl.col("month").dt.strftime("%Y-%m"), rate=pl.col("retained_next") / pl.col("active"))

    def kpi_growth(self, dim_dates, fact_revenue_month):
        all_months = dim_dates.select("month").unique()
        filled = all_months.join(fact_revenue_month.select("month", "revenue"), on="month", how="left").sort("month")
        filled = filled.with_columns(pl.col("revenue").fill_null(0)).with_columns(previous=pl.col("revenue").shift())
        growth = (pl.col("revenue") - pl.col("previous")).cast(pl.Float64) / real("previous")
        return filled.with_columns(growth=pl.when(pl.col("previous") != 0).then(growth))

    def kpi_clv(self, kpi_retention):
        last = self.orders.select(last_order=TIME.max())
        pooled = kpi_retention.select(pooled=pl.col("retained_next").sum() / pl.col("active").sum())
        bought = self.orders.group_by("customer_id").agg(historic=REVENUE, orders=ORDERS, first_order=TIME.min())
        observed = bought.join(last, how="cross").join(pooled, how="cross").with_columns(
            first_month=pl.col("first_order").dt.strftime("%Y-%m"),
            months_observed=months(pl.col("first_order"), pl.col("last_order")) + 1)
        monthly = observed.with_columns(monthly_value=real("historic") / pl.col("months_observed"))
        predictive = pl.col("monthly_value") * pl.col("pooled") / (1.01 - pl.col("pooled"))
        return monthly.with_columns(predictive=predictive).drop("pooled", "first_order", "last_order")

    def kpi_customers(self, dim_customers, kpi_rfm, kpi_clv):
        rfm = kpi_rfm.select("customer_id", "recency_days", "r", "f", "m", "segment")
        clv = kpi_clv.select("customer_id", "monthly_value", "predictive")
        return dim_customers.join(rfm, on="customer_id").join(clv, on="customer_id")

    def kpi_overview(self, kpi_rfm, kpi_retention, kpi_products, fact_revenue_country):
        sales = self.orders.select(revenue=REVENUE, orders=ORDERS, first_order=TIME.min(), last_order=TIME.max())
        sold = [kpi_products.select(products=pl.len()), fact_revenue_country.select(countries=pl.len())]
        buyers = kpi_rfm.select(
            customers=pl.len(), repeat_customers=(pl.col("frequency") >= 2).sum(), churned=(pl.col("recency_days") > 90).sum())
        pooled = kpi_retention.select(monthly_retention=pl.col("retained_next").sum() / pl.col("active").sum())
        return pl.concat([sales, *sold, buyers, pooled], how="horizontal").with_columns(
            aov=real("revenue") / pl.col("orders"), arpu=real("revenue") / pl.col("customers"),
            repeat_rate=pl.col("repeat_customers") / pl.col("customers"), churn_rate=pl.col("churned") / pl.col("customers"))

    def analytics_cohorts(self):
        begun = self.active().with_columns(cohort=pl.col("month").min().over("customer_id"))
        last = pl.col("month").max()
        seen = begun.with_columns(last=last).group_by(
            "cohort", "last", period=months(pl.col("cohort"), pl.col("month"))).agg(active=pl.len())
        periods = seen.filter(period=0).select("cohort", cohort_size="active", period=pl.int_ranges(
            0, months(pl.col("cohort"), pl.col("last")) + 1)).explode("period", empty_as_null=False)
        filled = periods.join(seen.drop("last"), on=["cohort", "period"], how="left").with_columns(pl.col("active").fill_null(0))
        return filled.with_columns(pl.col("cohort").dt.strftime("%Y-%m"), retention=pl.col("active") / pl.col("cohort_size"))

    def analytics_concentration(self, kpi_rfm):
        rank, x, n = pl.int_range(1, pl.len() + 1), real("monetary"), pl.len()
        least_first = kpi_rfm.sort("monetary", "customer_id").select(gini=2 * (x * rank).sum() / (n * x.sum()) - (n + 1) / n)
        monetary = pl.col("monetary")

        def share(part):
            return monetary.head((part * n).ceil().cast(pl.Int64)).sum().cast(pl.Float64) / x.sum()

        most_first = kpi_rfm.sort("monetary", "customer_id", descending=[True, False]).select(
            customers=n, top20_customers=(0.2 * n).ceil().cast(pl.Int64), top20_revenue_share=share(0.2),
            top1_revenue_share=share(0.01), customers_for_80_percent=(monetary.cum_sum() * 10 < monetary.sum() * 8).sum() + 1)
        return pl.concat([least_first, most_first], how="horizontal")

    def analytics_distribution(self, fact_orders):
        ranked = fact_orders.select("amount", "order_id").sort("amount", "order_id").select(
            "amount", tenth=ntile(10, pl.int_range(pl.len())))
        amount = pl.col("amount")
        return ranked.group_by("tenth").agg(
            orders=pl.len(), least=amount.min(), most=amount.max(), revenue=amount.sum()).with_columns(
            mean=real("revenue") / pl.col("orders"))

    def analytics_seasonality(self, dim_dates, fact_revenue_day):
        days = dim_dates.join(fact_revenue_day.select("day", "revenue"), on="day", how="left")
        days = days.with_columns(pl.col("revenue").fill_null(0)).with_columns(all_days=real("revenue").sum() / pl.len())
        seasons = [days.select("revenue", "all_days", season=pl.lit(season), part=part)
                   for season, part in (("weekday", "iso_weekday"), ("month", "month_of_year"))]
        parts = pl.concat(seasons).group_by("season", "part", "all_days").agg(days=pl.len(), revenue=pl.col("revenue").sum())
        mean = parts.with_columns(mean_daily=real("revenue") / pl.col("days"))
        return mean.with_columns(seasonal_index=pl.col("mean_daily") / pl.col("all_days")).drop("all_days")


def main():
    inputs, results, names = peer.arguments()
    # Faster than the streaming engine on what is in memory already.
    pl.Config.set_engine_affinity("in-memory")
    tables, made = Tables(inputs), {}

    def write(name, file):
        method = getattr(tables, name)
        query = method(*(made[read].lazy() for read in peer.reads(method)))
        if name not in ("dim_rfm", "dim_dates"):
            query = query.with_columns(source=pl.lit("files"))
        made[name] = query.collect()
        made[name].write_parquet(file, compression="zstd", compression_level=1)
        return made[name].height

    peer.make(results, names, write)


if __name__ == "__main__":
    main()
