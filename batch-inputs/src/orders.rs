//! `achats.csv` to `silver.orders`.

use crate::{
    amounts::{AmountProblem, read_amount},
    bronze::{same_text, time_type},
    dates::{DateProblem, read_date},
    ids::IdSet,
    refusals::{missing, refused},
    silver::{Judged, Table},
};
use arrow::{
    array::{ArrayRef, Decimal128Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use sluice_events::{EventTime, LogTime, Money, Reason, Refusal};
use std::sync::Arc;

/// Columns that `achats.csv` must have.
pub const ACHAT_COLUMNS: [&str; 5] = ["id_achat", "id_client", "date_achat", "montant", "produit"];

fn amount_type() -> DataType {
    DataType::Decimal128(Money::PRECISION, Money::SCALE as i8)
}

/// Columns of silver orders. None is ever null.
pub fn orders_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Utf8, false),
        Field::new("customer_id", DataType::Utf8, false),
        Field::new("order_time", time_type(), false),
        Field::new("amount", amount_type(), false),
        Field::new("product", DataType::Utf8, false),
        Field::new("_file", DataType::Utf8, false),
        Field::new("_line", DataType::Int64, false),
    ]))
}

/// The table of purchases. A row needs all five fields, a readable date, an amount above 0 and a known customer.
pub struct Achats {
    known: Arc<IdSet>,
    ids: StringBuilder,
    customers: StringBuilder,
    times: TimestampMillisecondBuilder,
    amounts: Decimal128Builder,
    products: StringBuilder,
    lines: Int64Builder,
}

/// A purchase.
pub struct Order<'a> {
    id: &'a str,
    customer: &'a str,
    time: EventTime,
    amount: Money,
    product: &'a str,
}

impl Achats {
    /// Purchases of these customers; those of others are dead letters.
    pub fn of(known: Arc<IdSet>) -> Self {
        Self {
            known,
            ids: StringBuilder::new(),
            customers: StringBuilder::new(),
            times: TimestampMillisecondBuilder::new().with_data_type(time_type()),
            amounts: Decimal128Builder::new().with_data_type(amount_type()),
            products: StringBuilder::new(),
            lines: Int64Builder::new(),
        }
    }
}

impl Table for Achats {
    const COLUMNS: [&'static str; 5] = ACHAT_COLUMNS;
    const RULES: [&'static str; 3] = ["validity.date_achat", "validity.montant_positive", "integrity.id_client"];
    type Row<'a> = Order<'a>;

    fn judge<'a>(&self, fields: &[&'a str; 5], now: LogTime) -> Judged<Order<'a>> {
        let [id, customer, date, amount, product] = *fields;
        let time = read_date(date, now);
        let money = read_amount(amount);
        let is_known = self.known.contains(customer);
        let rules = [time.is_ok(), money.is_ok(), is_known];
        let row = match (fields.iter().position(|f| f.is_empty()), time, money) {
            (Some(empty), ..) => Err(missing(ACHAT_COLUMNS[empty])),
            (None, Err(problem), _) => Err(bad_date(date, problem)),
            (None, _, Err(problem)) => Err(bad_amount(amount, problem)),
            (None, Ok(_), Ok(_)) if !is_known => {
                Err(refused(Reason::UnknownCustomer, ACHAT_COLUMNS[1], customer, "is no known customer"))
            }
            (None, Ok(time), Ok(amount)) => Ok(Order { id, customer, time, amount, product }),
        };
        Judged { rules, row }
    }

    fn append(&mut self, row: Order<'_>, line: i64) {
        self.ids.append_value(row.id);
        self.customers.append_value(row.customer);
        self.times.append_value(row.time.get());
        self.amounts.append_value(i128::from(row.amount.units()));
        self.products.append_value(row.product);
        self.lines.append_value(line);
    }

    fn finish(&mut self, file: &str) -> RecordBatch {
        let lines = self.lines.finish();
        let files = same_text(file, lines.values().len());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.customers.finish()),
            Arc::new(self.times.finish()),
            Arc::new(self.amounts.finish()),
            Arc::new(self.products.finish()),
            files,
            Arc::new(lines),
        ];
        RecordBatch::try_new(orders_schema(), columns).expect("all columns have as many rows")
    }
}

fn bad_date(text: &str, problem: DateProblem) -> Refusal {
    let reason = match problem {
        DateProblem::Unreadable => Reason::BadDate,
        DateProblem::TooOld => Reason::TooOld,
        DateProblem::Future => Reason::Future,
    };
    refused(reason, ACHAT_COLUMNS[2], text, &problem.to_string())
}

fn bad_amount(text: &str, problem: AmountProblem) -> Refusal {
    let reason = match problem {
        AmountProblem::NotANumber => Reason::BadAmount,
        AmountProblem::Ambiguous => Reason::AmbiguousAmount,
        AmountProblem::NotPositive => Reason::AmountNotPositive,
        AmountProblem::TooLarge | AmountProblem::TooPrecise => Reason::AmountOutOfRange,
    };
    refused(reason, ACHAT_COLUMNS[3], text, &problem.to_string())
}
