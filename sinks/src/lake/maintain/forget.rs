//! Making a person unknown.
//!
//! The rows stay, and belong to nobody any more: the customer's id becomes a name drawn at random and kept nowhere else,
//! so do the ids of sessions and orders, and what was written as text about the person is emptied. So the ledger, all
//! counts and distinct counts, sessions and sums are what they were, and none of it leads back to the person.

use super::KeptTable;
use crate::lake::{LakeError, fault_point::fault_point, parquet_layout::writer_properties};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    common::{Result as DataFusionResult, ScalarValue},
    functions::{crypto::expr_fn::md5, string::expr_fn::concat},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col, lit, or, when,
    },
};
use deltalake::{DeltaTableError, kernel::transaction::CommitProperties};
use memchr::memmem;
use std::sync::Arc;

/// Columns that hold the id of a customer.
const CUSTOMER: [&str; 2] = ["customer_id", "id_client"];
/// Columns that lead to the person who knows the id from elsewhere.
const LINKED: [&str; 3] = ["session_id", "order_id", "id_achat"];
/// Columns that say something about the person, or hold a record as it came.
const PERSONAL: [&str; 6] = ["name", "email", "nom", "signup_date", "date_inscription", "_raw"];
/// Columns of a dead letter in which an id may stand.
const RAW: [&str; 4] = ["key", "value", "headers", "message"];

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

/// Whose a value is. A function and no literal, because Delta writes the condition of an update into its log: the id
/// would stay there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IsThePerson {
    id: Vec<u8>,
    /// The id may stand anywhere in the value.
    within: bool,
    signature: Signature,
}

impl IsThePerson {
    fn of(id: &str, within: bool) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::from(Self { id: id.as_bytes().to_vec(), within, signature })
    }

    fn holds(&self, value: &[u8]) -> bool {
        if self.within { mentions(value, &self.id) } else { value == self.id }
    }
}

impl ScalarUDFImpl for IsThePerson {
    fn name(&self) -> &'static str {
        "is_the_person"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&args.args)?;
        let bytes = cast(&values[0], &DataType::Binary)?;
        let found: BooleanArray =
            bytes.as_binary::<i32>().iter().map(|value| Some(value.is_some_and(|v| self.holds(v)))).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    }
}

/// Whether an id stands in bytes by itself: not as a part of a longer word, or as Avro writes a text, after its length.
fn mentions(bytes: &[u8], id: &[u8]) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    memmem::find_iter(bytes, id).any(|at| {
        let is_counted =
            u8::try_from(id.len() * 2).is_ok_and(|length| length < 128 && bytes[..at].last() == Some(&length));
        is_counted || !is_word(bytes[..at].last()) && !is_word(bytes.get(at + id.len()))
    })
}

impl KeptTable {
    /// Makes a customer unknown in this table: `pseudonym` stands for the person from now on. Does nothing to a table in
    /// which nobody can be found.
    ///
    /// # Errors
    /// When the store or Delta fails; the table is as before then.
    pub fn forget(&mut self, customer: &str, pseudonym: &str) -> Result<Forgotten, LakeError> {
        let nothing = Forgotten { table: self.name.clone(), rows: 0, files: 0 };
        let erasure = self.erasure(customer, pseudonym).map_err(|e| self.error("erase")(e.into()))?;
        let Some((whose, updates)) = erasure else { return Ok(nothing) };
        let session = self.session()?;
        fault_point(&self.name, "before erasure");
        let (rows, files) = self.insist("erase", |this| {
            let mut update = this
                .table
                .clone()
                .update()
                .with_predicate(whose.clone())
                .with_session_state(Arc::new(session.state()))
                .with_writer_properties(writer_properties(&this.config))
                .with_commit_properties(CommitProperties::default().with_cleanup_expired_logs(Some(false)));
            for (column, value) in &updates {
                update = update.with_update(*column, value.clone());
            }
            let (table, metrics) = this.runtime.block_on(async { update.await })?;
            this.table = table;
            Ok::<_, DeltaTableError>((metrics.num_updated_rows, metrics.num_added_files))
        })?;
        fault_point(&self.name, "after erasure");
        Ok(Forgotten { rows, files, ..nothing })
    }

    /// Which rows are the person's, and what their columns become.
    #[allow(clippy::type_complexity, reason = "a condition and what follows from it")]
    fn erasure(&self, customer: &str, pseudonym: &str) -> DataFusionResult<Option<(Expr, Vec<(&'static str, Expr)>)>> {
        let columns = self.table.snapshot()?.snapshot().arrow_schema();
        let there = |names: &'static [&'static str]| {
            names.iter().copied().filter(|name| columns.field_with_name(name).is_ok()).collect::<Vec<_>>()
        };
        let null = |name: &str| -> DataFusionResult<Expr> {
            Ok(lit(ScalarValue::try_from(columns.field_with_name(name)?.data_type())?))
        };
        if let [id, ..] = there(&CUSTOMER)[..] {
            let mut updates = vec![(id, lit(pseudonym))];
            for name in there(&LINKED) {
                // Two of one name stay two of one name; which, only who knew the pseudonym before could compute.
                let anew = md5(concat(vec![lit(pseudonym), lit("/"), col(name)]));
                updates.push((name, when(col(name).is_not_null(), anew).end()?));
            }
            for name in there(&PERSONAL) {
                updates.push((name, null(name)?));
            }
            return Ok(Some((IsThePerson::of(customer, false).call(vec![col(id)]), updates)));
        }
        if there(&RAW).len() < RAW.len() {
            return Ok(None);
        }
        let is_mentioned = |name: &str| IsThePerson::of(customer, true).call(vec![col(name)]);
        let whose = RAW.iter().map(|name| is_mentioned(name)).reduce(or);
        let updates = RAW.iter().map(|name| Ok((*name, if *name == "message" { lit("erased") } else { null(name)? })));
        let updates = updates.collect::<DataFusionResult<Vec<_>>>()?;
        Ok(whose.map(|whose| (whose, updates)))
    }
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn an_id_is_found_by_itself_and_not_in_a_longer_one() {
        for (bytes, id, found) in [
            (&b"{\"customer_id\":\"c1\"}"[..], "c1", true),
            (b"c1", "c1", true),
            (b"c12,x", "c1", false),
            (b"abc1", "c1", false),
            (b"xc1 c1;", "c1", true),
            // Avro: the length, twice, then the text; here 24 bytes, whose length looks like a digit.
            (b"\x020aaaaaaaaaaaaaaaaaaaaaaaa\x02", "aaaaaaaaaaaaaaaaaaaaaaaa", true),
            (b"", "c1", false),
        ] {
            assert_eq!(mentions(bytes, id.as_bytes()), found, "{id} in {bytes:?}");
        }
    }
}
