//! Tables whose rows have an id: what is new is added, what has changed is replaced, in one commit.

use super::table_schema::written_schema;
use super::{KeptTable, Lake, LakeError, TableSpec, fault_point::fault_point, parquet_layout::writer_properties};
use arrow::{array::RecordBatch, compute::cast, datatypes::SchemaRef};
use datafusion::{
    dataframe::DataFrame,
    prelude::{ParquetReadOptions, SessionContext, col},
};
use deltalake::{
    DeltaTableError,
    kernel::{
        Transaction,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
};
use parquet::arrow::ArrowWriter;
use std::{fs::File, sync::Arc};
use tempfile::NamedTempFile;

/// Rows on their way into a table, in a file of their own: there may be more than fit into memory.
pub struct Staging {
    file: NamedTempFile,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    table: String,
}

/// What rows do that come a second time, under an application id that the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nothing: what has happened to the table since stands.
    Nothing,
    /// Those with a key that the table does not have are added.
    NewKeys,
}

/// What an upsert did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Rows with a new id.
    pub added: u64,
    /// Rows that replaced another one of their id.
    pub changed: u64,
}

impl Staging {
    /// An empty one, for rows of this table.
    ///
    /// # Errors
    /// When no file can be made in the temporary folder.
    pub fn new(spec: &TableSpec) -> Result<Self, LakeError> {
        let failed = |message: String| LakeError::Place { table: spec.name.clone(), message };
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().map_err(|e| failed(e.to_string()))?;
        let schema = written_schema(spec);
        let handle = file.reopen().map_err(|e| failed(e.to_string()))?;
        let writer = ArrowWriter::try_new(handle, schema.clone(), None).map_err(|e| failed(e.to_string()))?;
        Ok(Self { file, schema, writer, table: spec.name.clone() })
    }

    /// Takes rows: the columns of the spec.
    ///
    /// # Errors
    /// When the batch does not fit, or the disk is full.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let arrow = |source| LakeError::Arrow { table: self.table.clone(), source };
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(c, field)| cast(c, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(arrow)?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow)?;
        self.writer.write(&batch).map_err(|e| LakeError::Place { table: self.table.clone(), message: e.to_string() })
    }
}

impl Lake {
    /// Brings staged rows into a table by their `key`: adds those with a new one, replaces those that differ in one of
    /// `compared` from the row of their key. Staged keys must differ. The commit has the `txn` of `app`; rows that come again
    /// under it do what `again` says, and a second time changes nothing and commits nothing.
    ///
    /// # Errors
    /// When the store or Delta fails; the table is as before then.
    pub fn upsert(
        &self,
        spec: TableSpec,
        key: &str,
        compared: &[&str],
        staged: Staging,
        app: &str,
        again: Again,
    ) -> Result<Upserted, LakeError> {
        let Staging { file, writer, schema, table: name } = staged;
        writer.close().map_err(|e| LakeError::Place { table: name.clone(), message: e.to_string() })?;
        let table = self.table(spec)?.into_delta();
        let mut table = self.kept(name, table);
        let path = file.path().to_string_lossy().into_owned();
        table.insist("upsert", |table| {
            let is_known = table.mark(app).map_err(|e| DeltaTableError::Generic(e.to_string()))?.is_some();
            if is_known && again == Again::Nothing {
                return Ok(Upserted::default());
            }
            let compared = if is_known { &[] } else { compared };
            let session = table.session().map_err(|e| DeltaTableError::Generic(e.to_string()))?;
            let changes = table.runtime.clone().block_on(table.changes(&session, &path, key, compared))?;
            let properties = CommitProperties::default()
                .with_application_transactions(vec![Transaction::new(app, 1)])
                .with_max_retries(0)
                .with_cleanup_expired_logs(Some(false));
            let Some((rows, upserted)) = changes else {
                if !is_known {
                    // That the rows have come must stay known, though they changed nothing.
                    let operation =
                        DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
                    let commit = CommitBuilder::from(properties).build(
                        Some(table.table.snapshot()?),
                        table.table.log_store(),
                        operation,
                    );
                    table.runtime.block_on(async { commit.await })?;
                }
                return Ok(Upserted::default());
            };
            let both = |name: &str| (col(format!("source.{name}")), col(format!("target.{name}")));
            let (from, to) = both(key);
            let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
            let merge = table
                .table
                .clone()
                .merge(rows, to.eq(from))
                .with_source_alias("source")
                .with_target_alias("target")
                .with_session_state(Arc::new(session.state()))
                .with_writer_properties(writer_properties(&table.config, &table.name, &schema))
                // On top of the version it read and no other: Delta takes a merge of files meanwhile for harmless.
                .with_commit_properties(properties)
                .when_matched_update(|update| {
                    names.iter().fold(update, |update, name| update.update(name.as_str(), both(name).0))
                })?
                .when_not_matched_insert(|insert| {
                    names.iter().fold(insert, |insert, name| insert.set(name.as_str(), both(name).0))
                })?;
            fault_point(&table.name, "before upsert");
            let (after, _) = table.runtime.block_on(async { merge.await })?;
            fault_point(&table.name, "after upsert");
            table.table = after;
            Ok(upserted)
        })
    }
}

impl KeptTable {
    /// The staged rows that are new or differ, and how many of each; none when there are none.
    async fn changes(
        &self,
        session: &SessionContext,
        staged: &str,
        key: &str,
        compared: &[&str],
    ) -> Result<Option<(DataFrame, Upserted)>, DeltaTableError> {
        session.register_parquet("staged", staged, ParquetReadOptions::default()).await?;
        session.register_table("present", Arc::new(self.table.table_provider().build().await?))?;
        let differs = compared.iter().map(|c| format!("(s.\"{c}\" IS DISTINCT FROM p.\"{c}\")"));
        let differs: Vec<String> = std::iter::once("false".to_owned()).chain(differs).collect();
        let of = format!(
            "FROM staged s LEFT JOIN present p ON s.\"{key}\" = p.\"{key}\" WHERE p.\"{key}\" IS NULL OR {}",
            differs.join(" OR ")
        );
        let number = |name: &str| format!("CAST({name} AS BIGINT)");
        let counts = session
            .sql(&format!("SELECT {}, {} {of}", number("count(*)"), number(&format!("count(p.\"{key}\")"))))
            .await?
            .collect()
            .await?;
        let count = |column: usize| -> u64 {
            use arrow::{array::AsArray, datatypes::Int64Type};
            let value = |b: &RecordBatch| b.column(column).as_primitive::<Int64Type>().values().iter().sum::<i64>();
            u64::try_from(counts.iter().map(value).sum::<i64>()).unwrap_or(0)
        };
        let (all, changed) = (count(0), count(1));
        if all == 0 {
            return Ok(None);
        }
        let rows = session.sql(&format!("SELECT s.* {of}")).await?;
        Ok(Some((rows, Upserted { added: all - changed, changed })))
    }
}
