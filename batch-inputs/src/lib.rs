//! Turns the batch files of a shop, `clients.csv` and `achats.csv`, into Arrow batches of rows.
//!
//! In: the bytes of a file, plain or gzip, its name and hash, the time now and, for purchases, the ids of the known customers.
//! Out: bronze rows as received, silver customers and orders, dead letters with a reason, counts and quality figures.
//! Never: opens a file, touches a network, reads a clock, or holds more than a batch and the ids it has seen.

mod amounts;
mod bronze;
mod clients;
mod content;
mod countries;
mod dates;
mod emails;
mod encoding;
mod error;
mod header;
mod ids;
mod orders;
mod quality;
mod reader;
mod records;
mod refusals;
mod rows;
mod scan;
mod silver;

pub use amounts::{AmountProblem, read_amount};
pub use bronze::bronze_schema;
pub use clients::{CLIENT_COLUMNS, Clients, Customer, customers_schema};
pub use content::{ContentHash, content_hash};
pub use countries::{UNKNOWN_COUNTRY, country_name};
pub use dates::{DateProblem, read_date};
pub use emails::read_email;
pub use error::LoadError;
pub use ids::IdSet;
pub use orders::{ACHAT_COLUMNS, Achats, Order, orders_schema};
pub use quality::Check;
pub use reader::{AchatsReader, ClientsReader, InputFile, Loaded, Summary, TableReader};
pub use silver::{Judged, Table};
