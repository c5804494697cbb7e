//! `clients.csv` to `silver.customers`.

use crate::{
    bronze::same_text,
    countries::{UNKNOWN_COUNTRY, country_name},
    dates::read_date,
    emails::read_email,
    refusals::missing,
    silver::{Judged, Table},
};
use arrow::{
    array::{ArrayRef, Date32Builder, Int64Builder, StringBuilder},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use sluice_events::LogTime;
use std::sync::Arc;

const DAY_MILLIS: i64 = 86_400_000;

/// Columns that `clients.csv` must have.
pub const CLIENT_COLUMNS: [&str; 5] = ["id_client", "nom", "email", "date_inscription", "pays"];

/// Columns of silver customers. Null: the e-mail is missing or invalid, the name missing, the date missing or unreadable.
pub fn customers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("email", DataType::Utf8, true),
        Field::new("signup_date", DataType::Date32, true),
        Field::new("country", DataType::Utf8, false),
        Field::new("_file", DataType::Utf8, false),
        Field::new("_line", DataType::Int64, false),
    ]))
}

/// The table of customers. A row needs an id; everything else may be missing.
#[derive(Default)]
pub struct Clients {
    ids: StringBuilder,
    names: StringBuilder,
    emails: StringBuilder,
    signups: Date32Builder,
    countries: StringBuilder,
    lines: Int64Builder,
}

/// A customer.
pub struct Customer<'a> {
    id: &'a str,
    name: Option<&'a str>,
    email: Option<String>,
    /// Days since 1970.
    signup: Option<i32>,
    country: &'static str,
}

impl Table for Clients {
    const COLUMNS: [&'static str; 5] = CLIENT_COLUMNS;
    const RULES: [&'static str; 3] = ["validity.email", "validity.date_inscription", "validity.pays"];
    type Row<'a> = Customer<'a>;

    fn judge<'a>(&self, fields: &[&'a str; 5], now: LogTime) -> Judged<Customer<'a>> {
        let [id, name, email, signup, country] = *fields;
        let email = read_email(email);
        let signup = read_date(signup, now).ok().map(|time| time.get().div_euclid(DAY_MILLIS) as i32);
        let country = country_name(country);
        let rules = [email.is_some(), signup.is_some(), country.is_some()];
        let row = if id.is_empty() {
            Err(missing(CLIENT_COLUMNS[0]))
        } else {
            let name = (!name.is_empty()).then_some(name);
            Ok(Customer { id, name, email, signup, country: country.unwrap_or(UNKNOWN_COUNTRY) })
        };
        Judged { rules, row }
    }

    fn append(&mut self, row: Customer<'_>, line: i64) {
        self.ids.append_value(row.id);
        self.names.append_option(row.name);
        self.emails.append_option(row.email);
        self.signups.append_option(row.signup);
        self.countries.append_value(row.country);
        self.lines.append_value(line);
    }

    fn finish(&mut self, file: &str) -> RecordBatch {
        let lines = self.lines.finish();
        let files = same_text(file, lines.values().len());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.names.finish()),
            Arc::new(self.emails.finish()),
            Arc::new(self.signups.finish()),
            Arc::new(self.countries.finish()),
            files,
            Arc::new(lines),
        ];
        RecordBatch::try_new(customers_schema(), columns).expect("all columns have as many rows")
    }
}
