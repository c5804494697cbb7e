"""Writes clients.csv and achats.csv of a made-up shop, in the order of time; the same for the same number of orders.

    generate.py ORDERS FOLDER

A customer for twenty orders, a few very keen and some who never buy; who joins comes often at first, then less. Quiet
nights, busy Sundays and a busy December; 40 countries and 2,000 products, the first of each far ahead of the last.
"""
import os
import sys

import numpy as np
import polars as pl

SEED = 20260101
FIRST_DAY, DAYS = "2022-01-01", 912
PRODUCTS = 2_000
COUNTRIES = ("US GB DE FR ES IT NL BE CH AT SE NO DK FI PL CZ PT IE GR HU RO BG HR SK SI LT LV EE LU CA AU NZ JP KR BR MX "
             "IN SG ZA TR").split()
BY_WEEKDAY = np.array([0.95, 0.92, 0.94, 0.97, 1.02, 1.05, 1.15])
BY_HOUR = np.array([4, 2, 1, 1, 1, 2, 4, 8, 12, 16, 18, 19, 20, 19, 18, 18, 19, 22, 26, 30, 32, 28, 18, 9])


def drawn(random, weights, size):
    """Indexes, each as often as its weight says."""
    bounds = np.cumsum(weights)
    return np.searchsorted(bounds, random.random(size) * bounds[-1], side="right")


def skewed(count, exponent):
    return 1 / np.arange(1, count + 1) ** exponent


def busyness():
    """How much is bought by the end of each hour, of all from first to last."""
    hours = np.datetime64(FIRST_DAY, "h") + np.arange(DAYS * 24)
    days = hours.astype("datetime64[D]")
    weekday = (days.astype(int) + 3) % 7
    december = 1 + 0.6 * (days.astype("datetime64[M]").astype(int) % 12 == 11)
    bought = np.cumsum(BY_WEEKDAY[weekday] * BY_HOUR[np.arange(len(hours)) % 24] * december)
    return np.concatenate([[0], bought / bought[-1]])


def main():
    orders, folder = int(sys.argv[1]), sys.argv[2]
    random = np.random.default_rng(SEED)
    os.makedirs(folder, exist_ok=True)
    customers = max(orders // 20, 1)
    first = np.datetime64(FIRST_DAY, "s")
    calendar, knots = busyness(), np.arange(DAYS * 24 + 1) * 3600

    joined = random.random(customers) * 0.97
    countries = np.array(COUNTRIES)[drawn(random, skewed(len(COUNTRIES), 1.1), customers)]
    number = pl.int_range(1, customers + 1, eager=True).cast(pl.String)
    ids = "C" + number.str.zfill(7)
    pl.DataFrame({
        "id_client": ids,
        "nom": "Client " + number,
        "email": "client." + number + "@example.com",
        "date_inscription": (first + np.interp(joined, calendar, knots).astype("timedelta64[s]")).astype("datetime64[D]"),
        "pays": countries,
    }).write_csv(os.path.join(folder, "clients.csv"))

    buyer = drawn(random, random.gamma(0.6, 1.0, customers), orders)
    bought = joined[buyer] + (1 - joined[buyer]) * random.random(orders) ** 1.7
    bought = np.interp(bought, calendar, knots).astype("timedelta64[s]")
    in_time = np.argsort(bought, kind="stable")
    product = drawn(random, skewed(PRODUCTS, 0.9), orders)
    price = random.lognormal(3.2, 0.8, PRODUCTS)
    cents = np.clip(np.rint(price[product] * random.lognormal(0, 0.25, orders) * 100), 1, None)
    pl.DataFrame({
        "id_achat": "A" + pl.int_range(1, orders + 1, eager=True).cast(pl.String).str.zfill(9),
        "id_client": ids.gather(buyer[in_time]),
        "date_achat": (first + bought[in_time]).astype("datetime64[ms]"),
        "montant": cents / 100,
        "produit": ("P" + pl.int_range(1, PRODUCTS + 1, eager=True).cast(pl.String).str.zfill(4)).gather(product),
    }).write_csv(os.path.join(folder, "achats.csv"), datetime_format="%Y-%m-%dT%H:%M:%S", float_precision=2)


if __name__ == "__main__":
    main()
