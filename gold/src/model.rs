//! A model of gold: the text of one table.

use crate::{
    partition::Partition,
    views::{VIEWS, read_by},
};
use datafusion::execution::SessionState;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

/// Where models stand below `models/gold/`.
pub const ROOMS: [&str; 5] = ["dimensions", "facts", "kpis", "analytics", "ml"];

/// What the comments above a model's SQL say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoldHeader {
    /// A few words.
    pub title: String,
    /// What one row is about.
    pub grain: String,
    /// Columns that tell rows apart.
    pub key: Vec<String>,
    /// Units of the numbers.
    pub unit: String,
    /// How they come about.
    pub definition: String,
    /// Where the definition is from.
    pub source: String,
    /// How the table is filed; none: a change of its inputs makes all of it anew.
    pub partition: Option<Partition>,
    /// What learns from the rows of its SQL and gives those of the table; none: they are its rows.
    pub learn: Option<String>,
}

/// A model of gold.
#[derive(Clone, Debug)]
pub struct GoldModel {
    /// Its name, and its table's: `gold.<name>`.
    pub name: String,
    /// Its room, of [`ROOMS`].
    pub room: String,
    /// What its comments say.
    pub header: GoldHeader,
    /// Its text, comments and all.
    pub sql: String,
    /// The tables that it reads, views taken apart: `silver.orders`, `gold.dim_dates`.
    pub reads: BTreeSet<String>,
    /// Those of them, beside tables of gold, that it names itself: without one of these there is nothing to ask yet. A view is
    /// there without its tables.
    pub names: BTreeSet<String>,
    /// Of its text: another text is another table.
    pub fingerprint: String,
    /// Where it stands; none: shipped.
    pub file: Option<PathBuf>,
}

/// Why a text is no model.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// A comment of the header is wrong.
    #[error("model {model}, line {line}: {message}")]
    Header {
        /// The model.
        model: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// It is no SQL, or more than a question.
    #[error("model {model}: {message}")]
    Sql {
        /// The model.
        model: String,
        /// What is wrong.
        message: String,
    },
    /// Models read each other.
    #[error("models read each other in a circle: {0}")]
    Circle(String),
    /// A model reads one that there is not.
    #[error("model {model} reads {missing}, which no model makes")]
    Missing {
        /// The model.
        model: String,
        /// What it reads.
        missing: String,
    },
}

impl ModelError {
    /// The same with the file in which the text stands; none: shipped.
    pub fn in_file(self, file: Option<&Path>) -> Self {
        let place = |message: String| match file {
            Some(file) => format!("{message} (in {})", file.display()),
            None => message,
        };
        match self {
            Self::Header { model, line, message } => Self::Header { model, line, message: place(message) },
            Self::Sql { model, message } => Self::Sql { model, message: place(message) },
            other => other,
        }
    }
}

impl GoldModel {
    /// Reads a text.
    ///
    /// # Errors
    /// When the header has an unknown key or a title is missing, or the text is not one SQL question.
    pub fn parse(
        name: &str,
        room: &str,
        sql: &str,
        file: Option<PathBuf>,
        state: &SessionState,
    ) -> Result<Self, ModelError> {
        let header = GoldHeader::parse(name, sql)?;
        let failed = |message: String| ModelError::Sql { model: name.to_owned(), message };
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(|e| failed(e.to_string()))?;
        let text = statement.to_string();
        if !["SELECT", "WITH"].iter().any(|verb| text.trim_start_matches('(').starts_with(verb)) {
            return Err(failed("it is one question: SELECT … or WITH … SELECT …".to_owned()));
        }
        let (mut reads, mut names) = (BTreeSet::new(), BTreeSet::new());
        for table in state.resolve_table_references(&statement).map_err(|e| failed(e.to_string()))? {
            let named = table.to_string();
            match (table.schema(), read_by(&named)) {
                (_, Some(tables)) => reads.extend(tables.iter().map(|table| (*table).to_owned())),
                (Some("gold"), _) => drop(reads.insert(named)),
                (Some("silver" | "live" | "bronze"), _) => {
                    names.insert(named.clone());
                    reads.insert(named);
                }
                _ => {
                    let views: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
                    return Err(failed(format!(
                        "it reads '{named}': tables are named with their schema (silver., live., gold.); views are {}",
                        views.join(", ")
                    )));
                }
            }
        }
        let fingerprint = format!("{:016x}", xxh3_64(sql.as_bytes()));
        Ok(Self {
            name: name.to_owned(),
            room: room.to_owned(),
            header,
            sql: sql.to_owned(),
            reads,
            names,
            fingerprint,
            file,
        })
    }

    /// The name in SQL of its table.
    pub fn table(&self) -> String {
        format!("gold.{}", self.name)
    }

    /// The models that it reads.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.reads.iter().filter_map(|table| table.strip_prefix("gold."))
    }
}

impl GoldHeader {
    /// Reads the comments at the head of a text.
    fn parse(model: &str, sql: &str) -> Result<Self, ModelError> {
        let mut header = Self::default();
        for (at, line) in sql.lines().enumerate() {
            let Some(comment) = line.strip_prefix("--") else { break };
            let failed = |message: String| ModelError::Header { model: model.to_owned(), line: at + 1, message };
            let (key, value) = comment
                .split_once(':')
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| failed("a line of the header is '-- key: value'".to_owned()))?;
            match key {
                "title" => header.title = value.to_owned(),
                "grain" => header.grain = value.to_owned(),
                "key" => header.key = value.split(',').map(|column| column.trim().to_owned()).collect(),
                "unit" => header.unit = value.to_owned(),
                "definition" => header.definition = value.to_owned(),
                "source" => header.source = value.to_owned(),
                "learn" => header.learn = Some(value.to_owned()),
                "partition" => {
                    let filed = Partition::parse(value);
                    let right = "it is '-- partition: day of time_column', or month of it, and may end 'until last_time_column'";
                    header.partition = Some(filed.ok_or_else(|| failed(right.to_owned()))?);
                }
                _ => {
                    let known = "title, grain, key, unit, definition, source, partition, learn";
                    return Err(failed(format!("unknown header key '{key}'; known are {known}")));
                }
            }
        }
        let lacks =
            |what: &str| Err(ModelError::Header { model: model.to_owned(), line: 1, message: format!("the {what}") });
        if header.title.is_empty() {
            return lacks("title is missing: '-- title: …'");
        }
        if header.key.is_empty() && header.partition.as_ref().is_some_and(|filed| filed.until.is_some()) {
            return lacks("key is missing: a partition 'until' needs one");
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    fn parse(sql: &str) -> Result<GoldModel, String> {
        GoldModel::parse("m", "kpis", sql, None, &SessionContext::new().state()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_a_model_reads_is_read_from_its_sql() {
        let sql = "-- title: T\n-- key: a, b\nWITH x AS (SELECT 1 AS a FROM gold.k), orders2 AS (SELECT * FROM x) \
                   SELECT * FROM orders2 JOIN orders ON true WHERE 1 IN (SELECT a FROM live.sales)";
        let model = parse(sql).unwrap();
        let reads: Vec<&str> = model.reads.iter().map(String::as_str).collect();
        assert_eq!(reads, ["gold.k", "live.sales", "silver.customers", "silver.events", "silver.orders"]);
        assert_eq!(model.needs().collect::<Vec<_>>(), ["k"]);
        assert_eq!(model.header.key, ["a", "b"]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        assert!(parse("SELECT 1").unwrap_err().contains("title is missing"));
        assert!(parse("-- title: T\n-- colour: red\nSELECT 1").unwrap_err().contains("line 2: unknown header key"));
        assert!(parse("-- title: T\n-- partition: week of day\nSELECT 1").unwrap_err().contains("day of time_column"));
        let until = "-- title: T\n-- partition: day of a until b\nSELECT 1";
        assert!(parse(until).unwrap_err().contains("the key is missing"));
        assert!(parse("-- title: T\nSELEC 1").is_err());
        assert!(parse("-- title: T\nDROP TABLE gold.x").unwrap_err().contains("one question"));
        assert!(parse("-- title: T\nSELECT * FROM order_items").unwrap_err().contains("views are order_lines, orders"));
    }
}
