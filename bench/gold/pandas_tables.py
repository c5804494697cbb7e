"""The gold tables by pandas as its guide teaches it: frames as `read_parquet` gives them, money in whole units. See peer.py."""
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import peer

MONEY = {"amount", "revenue", "monetary", "historic", "previous", "least", "most"}
UNITS = 10_000


def real(money):
    return money.astype("float64") / UNITS


def ntile(tiles, column):
    """As of SQL; rows of equal value in their order: array_split, too, has the first parts hold one more."""
    parts = np.array_split(np.argsort(column.to_numpy(), kind="stable"), tiles)
    scores = np.empty(len(column), "int32")
    for tile, rows in enumerate(parts, 1):
        scores[rows] = tile
    return scores


class Tables:
    """A method for each table: of what it reads, the table."""

    def __init__(self, inputs):
        # By what orders call them: `customer`.
        customers = pd.read_parquet(f"{inputs}/customers", columns=["customer_id", "country", "signup_date"])
        self.customers = customers.set_index("customer_id", drop=False).rename_axis("customer")
        columns = ["order_id", "customer_id", "order_time", "amount", "product"]
        orders = pd.read_parquet(f"{inputs}/orders", columns=columns)
        orders = orders.merge(customers[["customer_id", "country"]], on="customer_id")
        self.orders = orders.rename(columns={"customer_id": "customer"}).assign(
            amount=(orders["amount"] * UNITS).astype("int64"), order_time=orders["order_time"].dt.tz_localize(None))

    def by(self, key):
        return self.orders.groupby(key, observed=True)

    def months(self):
        """Of each order, the months since 1970."""
        return self.orders["order_time"].to_numpy().astype("datetime64[M]").astype("int64")

    def active(self):
        return pd.DataFrame({"customer": self.orders["customer"], "month": self.months()}).drop_duplicates()

    def with_ids(self, frame):
        """With the customers' ids."""
        return frame.rename(columns={"customer": "customer_id"})

    def revenue_by(self, name, key):
        grouped = self.by(key)
        by_key = grouped.agg(revenue=("amount", "sum"), orders=("amount", "size"), customers=("customer", "nunique"))
        return by_key.assign(aov=real(by_key["revenue"]) / by_key["orders"]).rename_axis(name).reset_index()

    def dim_sources(self):
        times = self.orders["order_time"]
        reference_day = (times.max() + pd.Timedelta(days=1)).date()
        return pd.DataFrame({
            "first_order": [times.min()], "last_order": [times.max()], "reference_day": [reference_day],
            "orders": [len(times)], "revenue": [self.orders["amount"].sum()]})

    def dim_dates(self):
        times = self.orders["order_time"]
        day = pd.Series(pd.date_range(times.min().floor("D"), times.max().floor("D")))
        weekday = day.dt.day_of_week + 1
        return pd.DataFrame({
            "day": day.dt.date, "year": day.dt.year, "quarter": day.dt.quarter, "month_of_year": day.dt.month,
            "month": day.dt.strftime("%Y-%m"), "week": day.dt.strftime("%G-W%V"), "iso_weekday": weekday,
            "is_weekend": weekday >= 6})

    def dim_products(self):
        sold = self.by("product").agg(first_sold=("order_time", "min"), last_sold=("order_time", "max"))
        return sold.reset_index().assign(category=pd.Series(dtype="str"))

    def dim_rfm(self):
        return pd.DataFrame(peer.segments(), columns=["r", "f", "m", "segment"])

    def dim_customers(self):
        bought = self.by("customer").agg(
            first_order=("order_time", "min"), last_order=("order_time", "max"), orders=("amount", "size"),
            revenue=("amount", "sum"))
        counts = bought[["orders", "revenue"]].reindex(self.customers.index, fill_value=0)
        return self.customers.join(bought[["first_order", "last_order"]]).join(counts)

    def fact_orders(self):
        time = self.orders["order_time"]
        return self.with_ids(self.orders.drop(columns="product")).assign(
            last_line_time=time, order_date=time.dt.floor("D"), lines=1)

    def fact_revenue_hour(self):
        return self.revenue_by("hour", self.orders["order_time"].dt.floor("h"))

    def fact_revenue_day(self):
        return self.revenue_by("day", self.orders["order_time"].dt.floor("D"))

    def fact_revenue_week(self):
        days = self.orders["order_time"].to_numpy().astype("datetime64[D]").astype("int64")
        by_week = self.revenue_by("week", (days + 3) // 7)
        return by_week.assign(week=pd.to_datetime(by_week["week"] * 7 - 3, unit="D").dt.strftime("%G-W%V"))

    def fact_revenue_month(self):
        by_month = self.revenue_by("month", self.months())
        return by_month.assign(month=name_of(by_month["month"]))

    def fact_revenue_hour_of_day(self):
        return self.revenue_by("hour_of_day", self.orders["order_time"].dt.hour)

    def fact_revenue_country(self):
        return self.revenue_by("country", "country")

    def kpi_products(self):
        sold = self.by("product").agg(revenue=("amount", "sum"), orders=("amount", "size"), customers=("customer", "nunique"))
        ranked = sold.reset_index().astype({"product": "str"}).sort_values(["revenue", "product"], ascending=[False, True])
        return ranked.assign(revenue_share=ranked["revenue"] / ranked["revenue"].sum(), rank=range(1, len(ranked) + 1))

    def kpi_rfm(self, dim_rfm):
        bought = self.by("customer").agg(last=("order_time", "max"), frequency=("amount", "size"), monetary=("amount", "sum"))
        last_day = bought["last"].dt.floor("D")
        scored = bought.reset_index().drop(columns="last").assign(
            recency_days=((last_day.max() - last_day).dt.days + 1).to_numpy(), r=ntile(5, last_day),
            f=ntile(5, bought["frequency"]), m=ntile(5, bought["monetary"]))
        return self.with_ids(scored.merge(dim_rfm, on=["r", "f", "m"]))

    def kpi_retention(self):
        active = self.active()
        back = active.assign(month=active["month"] - 1, is_back=1)
        joined = active[active["month"] < active["month"].max()].merge(back, on=["customer", "month"], how="left")
        by_month = joined.groupby("month").agg(active=("customer", "size"), retained_next=("is_back", "count")).reset_index()
        return by_month.assign(month=name_of(by_month["month"]), rate=by_month["retained_next"] / by_month["active"])

    def kpi_growth(self, dim_dates, fact_revenue_month):
        revenue = fact_revenue_month.set_index("month")["revenue"].reindex(dim_dates["month"].unique(), fill_value=0)
        previous = revenue.astype("Int64").shift()
        growth = (revenue - previous) / previous.mask(previous == 0)
        return pd.DataFrame({"revenue": revenue, "previous": previous, "growth": growth}).rename_axis("month").reset_index()

    def kpi_clv(self, kpi_retention):
        months = self.months()
        bought = self.orders.assign(month=months).groupby("customer").agg(
            historic=("amount", "sum"), orders=("amount", "size"), month=("month", "min")).reset_index()
        retention = kpi_retention["retained_next"].sum() / kpi_retention["active"].sum()
        observed = months.max() - bought["month"] + 1
        monthly = real(bought["historic"]) / observed
        return self.with_ids(bought.drop(columns="month").assign(
            first_month=name_of(bought["month"]), months_observed=observed, monthly_value=monthly,
            predictive=monthly * retention / (1.01 - retention)))

    def kpi_customers(self, dim_customers, kpi_rfm, kpi_clv):
        rfm = kpi_rfm[["customer_id", "recency_days", "r", "f", "m", "segment"]]
        clv = kpi_clv[["customer_id", "monthly_value", "predictive"]]
        return dim_customers.merge(rfm, on="customer_id").merge(clv, on="customer_id")

    def kpi_overview(self, kpi_rfm, kpi_retention, kpi_products, fact_revenue_country):
        orders, times = self.orders, self.orders["order_time"]
        revenue, count, customers = orders["amount"].sum(), len(orders), len(kpi_rfm)
        repeat, churned = (kpi_rfm["frequency"] >= 2).sum(), (kpi_rfm["recency_days"] > 90).sum()
        return pd.DataFrame([{
            "revenue": revenue, "orders": count, "customers": customers, "products": len(kpi_products),
            "countries": len(fact_revenue_country), "aov": revenue / UNITS / count, "arpu": revenue / UNITS / customers,
            "first_order": times.min(), "last_order": times.max(), "repeat_customers": repeat,
            "repeat_rate": repeat / customers, "churned": churned, "churn_rate": churned / customers,
            "monthly_retention": kpi_retention["retained_next"].sum() / kpi_retention["active"].sum()}])

    def analytics_cohorts(self):
        active = self.active()
        cohort = active.groupby("customer")["month"].transform("min")
        seen = active.groupby([cohort.rename("cohort"), (active["month"] - cohort).rename("period")]).size()
        sizes, last = seen.xs(0, level="period"), active["month"].max()
        periods = [(cohort, period, size) for cohort, size in sizes.items() for period in range(last - cohort + 1)]
        filled = pd.DataFrame(periods, columns=["cohort", "period", "cohort_size"])
        filled["active"] = seen.reindex(pd.MultiIndex.from_frame(filled[["cohort", "period"]]), fill_value=0).to_numpy()
        return filled.assign(cohort=name_of(filled["cohort"]), retention=filled["active"] / filled["cohort_size"])

    def analytics_concentration(self, kpi_rfm):
        # Ties do not change these figures, so their order is of no concern.
        least_first = np.sort(kpi_rfm["monetary"].to_numpy())
        upto, n, total = least_first[::-1].cumsum(), len(least_first), least_first.sum()
        gini = 2 * (least_first * np.arange(1.0, n + 1)).sum() / (n * total) - (n + 1) / n
        top20, top1 = int(np.ceil(0.2 * n)), int(np.ceil(0.01 * n))
        return pd.DataFrame([{
            "customers": n, "gini": gini, "top20_customers": top20, "top20_revenue_share": upto[top20 - 1] / total,
            "top1_revenue_share": upto[top1 - 1] / total,
            "customers_for_80_percent": np.argmax(upto * 10 >= total * 8) + 1}])

    def analytics_distribution(self, fact_orders):
        # Here too.
        tenth = ntile(10, fact_orders["amount"])
        by_tenth = fact_orders["amount"].groupby(tenth).agg(orders="size", least="min", most="max", revenue="sum")
        return by_tenth.assign(mean=real(by_tenth["revenue"]) / by_tenth["orders"]).rename_axis("tenth").reset_index()

    def analytics_seasonality(self, dim_dates, fact_revenue_day):
        revenue = fact_revenue_day.set_index(fact_revenue_day["day"].dt.date)["revenue"]
        days = dim_dates.assign(revenue=revenue.reindex(dim_dates["day"], fill_value=0).to_numpy())
        seasons = pd.concat([days[["revenue"]].assign(season=season, part=days[part])
                             for season, part in (("weekday", "iso_weekday"), ("month", "month_of_year"))])
        parts = seasons.groupby(["season", "part"]).agg(days=("revenue", "size"), revenue=("revenue", "sum")).reset_index()
        mean = real(parts["revenue"]) / parts["days"]
        return parts.assign(mean_daily=mean, seasonal_index=mean / real(days["revenue"]).mean())


def name_of(months):
    """2024-03 for the months since 1970."""
    return pd.Series(months.to_numpy().astype("datetime64[M]").astype("datetime64[s]")).dt.strftime("%Y-%m")


def save(frame, file):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in MONEY.intersection(table.column_names):
        money = pc.multiply(table[name].cast(pa.decimal128(19)), Decimal(1) / UNITS)
        table = table.set_column(table.column_names.index(name), name, money)
    pq.write_table(table, file, compression="zstd", compression_level=1)


def main(of=Tables):
    inputs, results, names = peer.arguments()
    tables, made = of(inputs), {}

    def write(name, file):
        method = getattr(tables, name)
        frame = method(*(made[read] for read in peer.reads(method)))
        made[name] = frame if name in ("dim_dates", "dim_rfm") else frame.assign(source="files")
        save(made[name], file)
        return len(frame)

    peer.make(results, names, write)


if __name__ == "__main__":
    main()
