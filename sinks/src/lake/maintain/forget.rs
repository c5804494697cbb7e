//! Making a person unknown.
//!
//! The rows stay, and belong to nobody any more: the customer's id becomes a name drawn at random and kept nowhere else,
//! so do the ids of sessions and orders, and what was written as text about the person is emptied. So the ledger, all
//! counts and distinct counts, sessions and sums are what they were, and none of it leads back to the person.

use super::{
    KeptTable,
    rewrite::{DataFile, Rewrite},
};
use crate::lake::LakeError;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array},
    compute::{cast, filter, kernels::zip::zip, max, or},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
    error::ArrowError,
};
use deltalake::protocol::DeltaOperation;
use memchr::memmem;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Columns that hold the id of a customer.
const CUSTOMER: [&str; 2] = ["customer_id", "id_client"];
/// Columns that lead to the person who knows the id from elsewhere.
const LINKED: [&str; 3] = ["session_id", "order_id", "id_achat"];
/// Columns that say something about the person, or hold a record as it came.
const PERSONAL: [&str; 6] = ["name", "email", "nom", "signup_date", "date_inscription", "_raw"];
/// Columns of a dead letter in which an id may stand.
const RAW: [&str; 4] = ["key", "value", "headers", "message"];

/// Shorter ids are not looked for as words.
const WORD_MIN: usize = 6;

/// What was made unknown in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The table.
    pub table: String,
    /// Rows that were changed.
    pub rows: usize,
    /// Files that were written anew; the old ones stay until they are vacuumed.
    pub files: usize,
}

/// Columns of `bronze.erasures`: that it was done, when, why, and to how many rows; not to whom.
pub fn erasures_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("erased_at", time, false),
        Field::new("reference", DataType::Utf8, true),
        Field::new("pseudonym", DataType::Utf8, false),
        Field::new("table", DataType::Utf8, false),
        Field::new("rows", DataType::Int64, false),
    ]))
}

/// Whether an id stands in bytes by itself: not as a part of a longer word, or as Avro writes a text, after its length.
/// A short one is looked for only where its name says what it is: an `8` may be anything.
fn mentions(bytes: &[u8], id: &[u8]) -> bool {
    if id.len() < WORD_MIN {
        return CUSTOMER.iter().any(|name| {
            let quoted = [b"\"", name.as_bytes(), b"\":\"", id, b"\""].concat();
            let spaced = [b"\"", name.as_bytes(), b"\": \"", id, b"\""].concat();
            memmem::find(bytes, &quoted).is_some() || memmem::find(bytes, &spaced).is_some()
        });
    }
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    memmem::find_iter(bytes, id).any(|at| {
        let is_counted =
            u8::try_from(id.len() * 2).is_ok_and(|length| length < 128 && bytes[..at].last() == Some(&length));
        is_counted || !is_word(bytes[..at].last()) && !is_word(bytes.get(at + id.len()))
    })
}

/// How a person is found in a table, and made unknown.
struct Eraser<'a> {
    customer: &'a str,
    pseudonym: &'a str,
    /// The column of ids, of a table that has one.
    id: Option<&'static str>,
}

impl Eraser<'_> {
    /// Which rows are the person's.
    fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let texts = |name: &str| match batch.column_by_name(name) {
            Some(column) => cast(column, &DataType::Binary),
            None => Ok(new_null_array(&DataType::Binary, batch.num_rows())),
        };
        let id = self.customer.as_bytes();
        let found = |column: &ArrayRef, is_it: &dyn Fn(&[u8]) -> bool| -> BooleanArray {
            column.as_binary::<i32>().iter().map(|value| Some(value.is_some_and(is_it))).collect()
        };
        if let Some(column) = self.id {
            return Ok(found(&texts(column)?, &|value| value == id));
        }
        let mut all = found(&texts("key")?, &|value| value == id);
        for name in RAW {
            all = or(&all, &found(&texts(name)?, &|value| mentions(value, id)))?;
        }
        Ok(all)
    }

    /// The batch with the person's rows made unknown.
    fn erase(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows(batch)?;
        if rows.true_count() == 0 {
            return Ok(batch.clone());
        }
        let schema = batch.schema();
        let columns =
            schema.fields().iter().zip(batch.columns()).map(|(field, column)| match self.instead(field, column)? {
                Some(instead) => zip(&rows, &cast(&instead, field.data_type())?, column),
                None => Ok(column.clone()),
            });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        RecordBatch::try_new(schema, columns)
    }

    /// What a column becomes in rows of the person; none: what it was.
    fn instead(&self, field: &Field, column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
        let (name, rows) = (field.name().as_str(), column.len());
        let nothing = || match field.is_nullable() {
            true => new_null_array(field.data_type(), rows),
            false => constant("", rows),
        };
        Ok(match self.id {
            Some(id) if name == id => Some(constant(self.pseudonym, rows)),
            Some(_) if LINKED.contains(&name) => Some(self.renamed(column)?),
            Some(_) => PERSONAL.contains(&name).then(nothing),
            None if name == "message" => Some(constant("erased", rows)),
            None => RAW.contains(&name).then(nothing),
        })
    }

    /// Two of one name stay two of one name; which, only who knows the pseudonym and the old name could compute.
    fn renamed(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let texts = cast(column, &DataType::Utf8)?;
        let anew = |text: &str| {
            let digest = Sha256::new().chain_update(self.pseudonym).chain_update([0]).chain_update(text).finalize();
            digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let renamed: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(anew)).collect();
        Ok(Arc::new(renamed))
    }
}

fn constant(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; rows]))
}

impl KeptTable {
    /// Makes a customer unknown in this table: `pseudonym` stands for the person from now on. A file after the other is
    /// exchanged, each in one commit, until a look finds none with the person. Does nothing to a table in which nobody can
    /// be found. The commits do not tell whom they are about.
    ///
    /// # Errors
    /// When the store or Delta fails; files that were exchanged stay so, and doing it again does the rest.
    pub fn forget(&mut self, customer: &str, pseudonym: &str) -> Result<Forgotten, LakeError> {
        let mut forgotten = Forgotten { table: self.name.clone(), rows: 0, files: 0 };
        let columns = self.table.snapshot().map_err(self.error("read log"))?.snapshot().arrow_schema();
        let has = |name: &&&'static str| columns.field_with_name(name).is_ok();
        let id = CUSTOMER.iter().find(has).copied();
        if id.is_none() && RAW.iter().filter(has).count() < RAW.len() {
            return Ok(forgotten);
        }
        let eraser = Eraser { customer, pseudonym, id };
        loop {
            let (mut is_clean, mut known) = (true, 0);
            for day in self.days()?.into_keys() {
                for file in self.files_of(&day)? {
                    let files = std::slice::from_ref(&file);
                    let (rows, done) = self.count(files, &eraser)?;
                    known += done;
                    if rows == 0 {
                        continue;
                    }
                    is_clean = false;
                    let operation = DeltaOperation::Update { predicate: Some("a person is made unknown".to_owned()) };
                    let rewrite = Rewrite { files, day: &day, changes_data: true, operation, deed: "erasure" };
                    // Merged with others meanwhile: the next look finds it there.
                    if self.rewrite(&rewrite, |batch| eraser.erase(&batch))?.is_some() {
                        forgotten.rows += rows;
                        forgotten.files += 1;
                    }
                }
            }
            if is_clean {
                // Those too that a run before this one did, and could not tell any more.
                forgotten.rows = forgotten.rows.max(known);
                return Ok(forgotten);
            }
            self.refresh()?;
        }
    }

    /// The newest value of a time column (milliseconds) among the rows of a customer; none: there are no rows.
    ///
    /// # Errors
    /// When the store fails.
    pub fn newest_of(&self, customer: &str, time: &str) -> Result<Option<i64>, LakeError> {
        let eraser = Eraser { customer, pseudonym: "", id: Some(CUSTOMER[0]) };
        let mut newest = None;
        for day in self.days()?.into_keys() {
            let files = self.files_of(&day)?;
            self.runtime.block_on(self.read(&files, async |batch| {
                let rows = eraser.rows(&batch)?;
                let Some(times) = batch.column_by_name(time).filter(|_| rows.true_count() > 0) else { return Ok(()) };
                let times = cast(times, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                let times = filter(&times, &rows)?;
                newest = newest.max(max(times.as_primitive::<TimestampMillisecondType>()));
                Ok(())
            }))?;
        }
        Ok(newest)
    }

    /// Rows of the person, and rows that were.
    fn count(&self, files: &[DataFile], eraser: &Eraser<'_>) -> Result<(usize, usize), LakeError> {
        let erased = eraser.id.map(|id| Eraser { customer: eraser.pseudonym, id: Some(id), ..*eraser });
        let (mut rows, mut done) = (0, 0);
        self.runtime.block_on(self.read(files, async |batch| {
            rows += eraser.rows(&batch)?.true_count();
            if let Some(erased) = &erased {
                done += erased.rows(&batch)?.true_count();
            }
            Ok(())
        }))?;
        Ok((rows, done))
    }
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn an_id_is_found_by_itself_and_not_in_a_longer_one() {
        for (bytes, id, found) in [
            (&b"{\"customer_id\":\"c1\"}"[..], "c1", true),
            (b"{\"id_client\": \"8\", \"n\": 8}", "8", true),
            (b"{\"quantity\":8}", "8", false),
            (b"cust-1", "cust-1", true),
            (b"cust-12,x", "cust-1", false),
            (b"a-cust-1", "cust-1", false),
            (b"xcust-1 cust-1;", "cust-1", true),
            // Avro: the length, twice, then the text; here 24 bytes, whose length looks like a digit.
            (b"\x020aaaaaaaaaaaaaaaaaaaaaaaa\x02", "aaaaaaaaaaaaaaaaaaaaaaaa", true),
            (b"", "c1", false),
        ] {
            assert_eq!(mentions(bytes, id.as_bytes()), found, "{id} in {bytes:?}");
        }
    }
}
