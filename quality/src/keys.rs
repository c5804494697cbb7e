//! The keys of another table, to look references up in.

use crate::rule::hash_texts;
use arrow::{array::Array, error::ArrowError};
use std::{collections::HashSet, fmt, str::FromStr};

/// `silver.customers.customer_id`: a column of another table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `silver`.
    pub schema: String,
    /// `customers`.
    pub table: String,
    /// `customer_id`.
    pub column: String,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split('.').map(str::trim).collect::<Vec<_>>()[..] {
            [schema, table, column] if ![schema, table, column].contains(&"") => {
                Ok(Self { schema: schema.to_owned(), table: table.to_owned(), column: column.to_owned() })
            }
            _ => {
                Err(format!("'{text}' names no column: give schema.table.column, such as silver.customers.customer_id"))
            }
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// Keys by their 64-bit hashes: of a million keys, one foreign value in 10^13 is taken for one of them.
#[derive(Clone, Debug, Default)]
pub struct KeySet(HashSet<u64>);

impl KeySet {
    /// Adds the values of a column; nulls are no keys.
    ///
    /// # Errors
    /// When the column is of a type without a text.
    pub fn add(&mut self, column: &dyn Array) -> Result<(), ArrowError> {
        let keys = &mut self.0;
        hash_texts(column, |hash| keys.extend(hash))
    }

    /// Whether a value of this hash is there.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.0.contains(&hash)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
