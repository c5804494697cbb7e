//! Editions as collections of MongoDB.
//!
//! A row is a document whose `_id` has the columns of the key. Documents are replaced one by one, those that are the same
//! stay untouched, and those that no row stands for are removed at the end: while that lasts, readers see some of both
//! editions. Collection `published` tells which edition is there as a whole.

use super::{Edition, PublishError, Published, Publisher, Rows};
use crate::mongo::{Find, MongoError, MongoServer, Update, decimal_value, whole_number};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType},
};
use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_128;

/// Which edition each collection has.
const LEDGER: &str = "published";
const MILLIS_A_DAY: i64 = 86_400_000;
/// Documents to remove in one command.
const REMOVED_PER_COMMAND: usize = 500;

impl From<MongoError> for PublishError {
    fn from(MongoError { server, deed, message }: MongoError) -> Self {
        Self::Target { target: server, deed: deed.to_owned(), message }
    }
}

/// A database of a MongoDB server.
pub struct MongoPublisher {
    server: MongoServer,
}

impl MongoPublisher {
    /// Connects to a database.
    ///
    /// # Errors
    /// When the connection string is wrong.
    pub fn connect(uri: &str, database: &str) -> Result<Self, PublishError> {
        Ok(Self { server: MongoServer::connect(uri, database, "publish-mongo")? })
    }

    /// Writes a batch; gives how many documents are other than before, and notes their ids.
    fn write(
        &self,
        name: &str,
        edition: &Edition,
        batch: &RecordBatch,
        ids: &mut HashSet<u128>,
    ) -> Result<i64, PublishError> {
        let columns = edition.schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| Ok((field.name(), values(column.as_ref())?)));
        let columns = columns.collect::<Result<Vec<_>, arrow::error::ArrowError>>();
        let columns =
            columns.map_err(|e| PublishError::Edition { table: edition.table.clone(), message: e.to_string() })?;
        let mut updates = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut document = Document::new();
            document.extend(columns.iter().map(|(name, values)| ((*name).clone(), values[row].clone())));
            let id: Document =
                edition.key.iter().map(|key| (key.clone(), document.get(key).cloned().unwrap_or(Bson::Null))).collect();
            if !ids.insert(fingerprint(&id)) {
                let message = format!("two rows have the key {id}");
                return Err(PublishError::Edition { table: edition.table.clone(), message });
            }
            updates.push(Update::new(doc! {"_id": id}, document, true));
        }
        Ok(self.server.update("write rows", name, updates)?)
    }

    /// Removes the documents that no row stands for; gives how many.
    fn remove_others(&self, name: &str, ids: &HashSet<u128>) -> Result<i64, PublishError> {
        let find = Find { fields: doc! {"_id": 1}, ..Find::default() };
        let found = self.server.find("look for rows that are gone", &self.server.collection(name), find)?;
        let is_gone =
            |document: &Document| document.get_document("_id").is_ok_and(|id| !ids.contains(&fingerprint(id)));
        let gone: Vec<&Bson> =
            found.iter().filter(|document| is_gone(document)).filter_map(|document| document.get("_id")).collect();
        for some in gone.chunks(REMOVED_PER_COMMAND) {
            let some: Vec<Bson> = some.iter().map(|id| (*id).clone()).collect();
            self.server.delete("remove rows", name, doc! {"_id": {"$in": some}})?;
        }
        Ok(gone.len() as i64)
    }

    /// Whether the collection has documents, and no entry in the ledger.
    fn is_anothers(&self, name: &str) -> Result<bool, PublishError> {
        let any = |collection: &str, filter| {
            let find = Find { filter, fields: doc! {"_id": 1}, limit: Some(1), ..Find::default() };
            Ok::<_, MongoError>(
                !self.server.find("look for the collection", &self.server.collection(collection), find)?.is_empty(),
            )
        };
        Ok(!any(LEDGER, doc! {"_id": name})? && any(name, doc! {})?)
    }

    /// Changes the entry of the ledger that matches; says whether there was one.
    fn note(&self, filter: Document, change: Document, upsert: bool) -> Result<bool, PublishError> {
        Ok(self.server.update("note what is published", LEDGER, vec![Update::new(filter, change, upsert)])? > 0)
    }
}

impl Publisher for MongoPublisher {
    fn published(&mut self, name: &str) -> Result<Option<Published>, PublishError> {
        let find = Find { filter: doc! {"_id": name}, limit: Some(1), ..Find::default() };
        let found = self.server.find("ask what is published", &self.server.collection(LEDGER), find)?;
        Ok(found.first().and_then(read_published))
    }

    fn publish(&mut self, name: &str, edition: &Edition, rows: Rows<'_>) -> Result<Published, PublishError> {
        let there = self.published(name)?;
        match &there {
            Some(there) if there.is_newer_than(edition) => return Ok(there.clone()),
            None if self.is_anothers(name)? => {
                return Err(PublishError::Edition {
                    table: edition.table.clone(),
                    message: format!(
                        "collection {name} has documents that sluice did not write; publish under another name"
                    ),
                });
            }
            _ => {}
        }
        // Until the end no edition is there as a whole. Who begins meanwhile takes the entry over, and we do not note ours.
        let token = ObjectId::new();
        let begun = doc! {"$set": {"table": &edition.table, "begun": token}, "$unset": {"version": ""}};
        self.note(doc! {"_id": name}, begun, true)?;
        let (mut ids, mut count, mut changed) = (HashSet::new(), 0, 0);
        for batch in rows {
            let batch = batch?;
            count += batch.num_rows() as i64;
            changed += self.write(name, edition, &batch, &mut ids)?;
        }
        changed += self.remove_others(name, &ids)?;
        let published = Published::now(edition, there.as_ref(), count, changed);
        let whole = doc! {"$set": document_of(&published), "$unset": {"begun": ""}};
        match self.note(doc! {"_id": name, "begun": token}, whole, false)? {
            true => Ok(published),
            false => Err(PublishError::Target {
                target: self.server.name().to_owned(),
                deed: "note what is published".to_owned(),
                message: format!("another process publishes {name} too"),
            }),
        }
    }
}

fn document_of(published: &Published) -> Document {
    doc! {
        "table": &published.table,
        "version": published.version,
        "committed_at": DateTime::from_millis(published.committed_at),
        "published_at": DateTime::from_millis(published.published_at),
        "publish_lag_seconds": published.lag_seconds(),
        "rows": published.rows,
        "changed": published.changed,
    }
}

/// None of one that was only begun.
fn read_published(document: &Document) -> Option<Published> {
    let time = |name| Some(document.get_datetime(name).ok()?.timestamp_millis());
    let number = |name| whole_number(document.get(name)?);
    Some(Published {
        table: document.get_str("table").ok()?.to_owned(),
        version: number("version")?,
        committed_at: time("committed_at")?,
        published_at: time("published_at")?,
        rows: number("rows")?,
        changed: number("changed")?,
    })
}

fn fingerprint(id: &Document) -> u128 {
    id.to_vec().map_or(0, |bytes| xxh3_128(&bytes))
}

/// The values of a column as BSON: decimals as decimals, dates as their first moment in UTC.
fn values(column: &dyn Array) -> Result<Vec<Bson>, arrow::error::ArrowError> {
    let value: Box<dyn Fn(usize) -> Bson> = match column.data_type() {
        DataType::Boolean => {
            let column = column.as_boolean().clone();
            Box::new(move |row| Bson::Boolean(column.value(row)))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let column = cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
            Box::new(move |row| Bson::Int64(column.value(row)))
        }
        DataType::Float32 | DataType::Float64 => {
            let column = cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
            Box::new(move |row| Bson::Double(column.value(row)))
        }
        DataType::Timestamp(..) => {
            let millis = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            let millis = millis.as_primitive::<TimestampMillisecondType>().clone();
            Box::new(move |row| Bson::DateTime(DateTime::from_millis(millis.value(row))))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().clone();
            Box::new(move |row| Bson::DateTime(DateTime::from_millis(i64::from(days.value(row)) * MILLIS_A_DAY)))
        }
        DataType::Decimal128(..) => {
            let texts = cast(column, &DataType::Utf8)?.as_string::<i32>().clone();
            Box::new(move |row| decimal_value(texts.value(row)))
        }
        _ => {
            let texts = cast(column, &DataType::Utf8)?.as_string::<i32>().clone();
            Box::new(move |row| Bson::String(texts.value(row).to_owned()))
        }
    };
    Ok((0..column.len()).map(|row| if column.is_null(row) { Bson::Null } else { value(row) }).collect())
}
