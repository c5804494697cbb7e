"""The same by pandas for speed: customers are whole numbers from the start, read by hand with pyarrow. See pandas_tables.py."""
from decimal import Decimal

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pandas_tables import UNITS, Tables, main


class TunedTables(Tables):
    def __init__(self, inputs):
        customers = pd.read_parquet(f"{inputs}/customers", columns=["customer_id", "country", "signup_date"])
        # A number of a customer is a place in this frame, so numbers are in the order of ids.
        self.customers = customers.sort_values("customer_id", ignore_index=True).astype({"country": "category"})
        columns = ["order_id", "customer_id", "order_time", "amount", "product"]
        table = pq.read_table(f"{inputs}/orders", columns=columns, read_dictionary=["customer_id", "product"])
        buyer = table["customer_id"].to_pandas().cat
        customer = pd.Index(self.customers["customer_id"]).get_indexer(buyer.categories)[buyer.codes]
        orders = pd.DataFrame({
            "order_id": table["order_id"].to_pandas(),
            "customer": customer.astype("int32"),
            "country": self.customers["country"].array.take(customer),
            "order_time": table["order_time"].to_pandas().dt.tz_localize(None),
            "product": table["product"].to_pandas(),
            "amount": pc.multiply(table["amount"], Decimal(UNITS)).cast("int64").to_numpy(),
        })
        self.orders = orders[customer >= 0]

    def with_ids(self, frame):
        """With the customers' ids instead of their numbers."""
        return frame.assign(customer_id=self.customers["customer_id"].array.take(frame["customer"])).drop(columns="customer")

    def fact_orders(self):
        orders, time = self.orders, self.orders["order_time"]
        customer = pd.Categorical.from_codes(orders["customer"], self.customers["customer_id"])
        return orders.drop(columns=["customer", "product"]).assign(
            customer_id=customer, last_line_time=time, order_date=time.dt.floor("D"), lines=1)


if __name__ == "__main__":
    main(TunedTables)
