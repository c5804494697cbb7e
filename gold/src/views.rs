//! Views that models read: one look at what comes by file and by stream.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::{datasource::empty::EmptyTable, error::Result, prelude::SessionContext};
use std::sync::Arc;

/// A view.
pub struct View {
    /// Its name in SQL.
    pub name: &'static str,
    /// The tables it is over.
    pub reads: &'static [&'static str],
    /// For each table that may be missing, its part of the view.
    parts: &'static [Part],
}

struct Part {
    /// Tables without which there is nothing to see.
    needs: &'static [&'static str],
    sql: &'static str,
}

/// Lines of orders of files; where `$country` says of which country, from `$tables`.
macro_rules! lines_of_files {
    ($country:literal, $tables:literal) => {
        concat!(
            "SELECT coalesce(nullif('files', o.order_id), 'files') AS source, o.order_id, o.customer_id, ",
            $country,
            "o.order_time, o.product, CAST(NULL AS VARCHAR) AS category, CAST(1 AS INT) AS quantity, ",
            "CAST(o.amount AS DECIMAL(28, 4)) AS amount, true AS is_whole FROM ",
            $tables
        )
    };
}

/// The same of purchase events.
macro_rules! lines_of_events {
    ($country:literal) => {
        concat!(
            "SELECT coalesce(nullif('events', event_id), 'events') AS source, coalesce(order_id, event_id) AS order_id, customer_id, ",
            $country,
            "event_time AS order_time, product_id AS product, category, CAST(quantity AS INT) AS quantity, ",
            "CAST(coalesce(quantity * unit_price, 0) AS DECIMAL(28, 4)) AS amount, false AS is_whole ",
            "FROM silver.events WHERE event_type = 'purchase'"
        )
    };
}

/// `order_lines`: lines of orders by `source`, of batch files and of purchase events; `is_whole`: the line is all of its order, as
/// in a file, where an order's id is there once. `orders`: the same with their `country`, which files say of customers.
/// `customers`: those that files tell of. `shop_events`: what was accepted of the stream, late events too.
///
/// The source is written so that the planner does not see that it is always the same where there is but one: it would take the rows for
/// ordered by it, and group them in that order, which takes ten times as long; and the executors of a cluster, each with a piece of
/// the plan, would not share its conclusions.
pub const VIEWS: [View; 4] = [
    View {
        name: "order_lines",
        reads: &["silver.orders", "silver.events"],
        parts: &[
            Part { needs: &["silver.orders"], sql: lines_of_files!("", "silver.orders o") },
            Part { needs: &["silver.events"], sql: lines_of_events!("") },
        ],
    },
    View {
        name: "orders",
        reads: &["silver.orders", "silver.customers", "silver.events"],
        parts: &[
            Part {
                needs: &["silver.orders", "silver.customers"],
                sql: lines_of_files!(
                    "c.country, ",
                    "silver.orders o JOIN silver.customers c ON o.customer_id = c.customer_id"
                ),
            },
            Part { needs: &["silver.events"], sql: lines_of_events!("coalesce(country, 'unknown') AS country, ") },
        ],
    },
    View {
        name: "customers",
        reads: &["silver.customers"],
        parts: &[Part {
            needs: &["silver.customers"],
            sql: "SELECT customer_id, country, signup_date FROM silver.customers",
        }],
    },
    View {
        name: "shop_events",
        reads: &["silver.events"],
        parts: &[Part {
            needs: &["silver.events"],
            sql: "SELECT event_id, event_type, event_time, customer_id, session_id, product_id, category, country, \
                  CAST(quantity AS INT) AS quantity, unit_price FROM silver.events",
        }],
    },
];

/// Columns that say when a row of a table that is not filed by dates was.
pub(crate) const TIMES: [(&str, &str); 1] = [("silver.orders", "order_time")];

/// The tables that a view reads; none when there is no such view.
pub(crate) fn read_by(name: &str) -> Option<&'static [&'static str]> {
    VIEWS.iter().find(|view| view.name == name).map(|view| view.reads)
}

/// Registers the views over the tables that a session knows. One without any is there, and empty.
///
/// # Errors
/// When a table has other columns.
pub async fn register_views(context: &SessionContext) -> Result<()> {
    for view in &VIEWS {
        let mut parts = Vec::new();
        for part in view.parts {
            let mut is_there = true;
            for table in part.needs {
                is_there &= context.table_exist(*table)?;
            }
            if is_there {
                parts.push(part.sql);
            }
        }
        if parts.is_empty() {
            context.register_table(view.name, Arc::new(EmptyTable::new(Arc::new(empty_schema(view.name)))))?;
            continue;
        }
        let frame = context.sql(&parts.join(" UNION ALL ")).await?;
        context.register_table(view.name, frame.into_view())?;
    }
    Ok(())
}

fn empty_schema(view: &str) -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    match view {
        "order_lines" | "orders" => {
            let mut fields = vec![
                text("source"),
                text("order_id"),
                text("customer_id"),
                text("country"),
                time("order_time"),
                text("product"),
                text("category"),
                Field::new("quantity", DataType::Int32, true),
                Field::new("amount", DataType::Decimal128(28, 4), true),
                Field::new("is_whole", DataType::Boolean, true),
            ];
            fields.retain(|field| view == "orders" || field.name() != "country");
            Schema::new(fields)
        }
        "shop_events" => Schema::new(vec![
            text("event_id"),
            text("event_type"),
            time("event_time"),
            text("customer_id"),
            text("session_id"),
            text("product_id"),
            text("category"),
            text("country"),
            Field::new("quantity", DataType::Int32, true),
            Field::new("unit_price", DataType::Decimal128(18, 4), true),
        ]),
        _ => Schema::new(vec![text("customer_id"), text("country"), Field::new("signup_date", DataType::Date32, true)]),
    }
}
