//! The columns of a table as they are written, and how they follow those of a newer or older sluice.
//!
//! A table outlives the program that made it. A column that is new here and may be null is added to the table; one that
//! only the table has is left null; a type that only grew is written as the wider one. Anything else would change what
//! is there already, and is refused.

use super::TableSpec;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::{
    DeltaTableError,
    kernel::{StructField, StructType, engine::arrow_conversion::TryIntoKernel},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a table must become before it is written to, and the columns to write then.
#[derive(Debug)]
pub(super) struct Fitted {
    /// Columns that the table lacks.
    pub add: Vec<StructField>,
    /// The columns to write, in the spec's order.
    pub schema: SchemaRef,
}

/// The spec's columns in types that Delta has, then the partition column.
pub(super) fn written_schema(spec: &TableSpec) -> SchemaRef {
    let mut fields: Vec<Field> = spec
        .schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            // Delta knows microseconds only.
            DataType::Timestamp(_, zone) => {
                field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
            }
            DataType::UInt64 | DataType::UInt32 => field.as_ref().clone().with_data_type(DataType::Int64),
            DataType::UInt16 => field.as_ref().clone().with_data_type(DataType::Int32),
            _ => field.as_ref().clone(),
        })
        .collect();
    if let Some(partition) = &spec.partition {
        fields.push(Field::new(partition.column, DataType::Date32, false));
    }
    Arc::new(Schema::new(fields))
}

/// The columns in Delta's own types.
pub(super) fn delta_columns(schema: &SchemaRef) -> Result<StructType, DeltaTableError> {
    // Kernel conversion knows plain strings; views are a matter of memory, not of the table.
    let plain: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.data_type() {
            DataType::Utf8View => f.as_ref().clone().with_data_type(DataType::Utf8),
            _ => f.as_ref().clone(),
        })
        .collect();
    (&Schema::new(plain)).try_into_kernel().map_err(DeltaTableError::from)
}

/// Whether every value of `narrow` is one of `wide`.
fn widens(narrow: &DataType, wide: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
    match (narrow, wide) {
        (Decimal128(precision, scale), Decimal128(more, same)) => scale == same && precision <= more,
        _ => matches!(
            (narrow, wide),
            (Int8, Int16 | Int32 | Int64)
                | (Int16, Int32 | Int64)
                | (Int32, Int64)
                | (Float32, Float64)
                | (Int8 | Int16 | Int32, Float64)
        ),
    }
}

/// How `wanted`, the columns of this program, go into a table that has `there`.
///
/// # Errors
/// With the column and what it is on both sides, when the table would have to change what it holds.
pub(super) fn fit(wanted: &SchemaRef, there: &StructType, arrow_there: &Schema) -> Result<Fitted, String> {
    let as_delta = delta_columns(wanted).map_err(|e| e.to_string())?;
    let mut add = Vec::new();
    let mut fields = Vec::with_capacity(wanted.fields().len());
    for (field, delta) in wanted.fields().iter().zip(as_delta.fields()) {
        let name = field.name();
        let Some(known) = there.field(name) else {
            if !field.is_nullable() {
                return Err(format!("column {name} is missing in the table and has no null"));
            }
            add.push(delta.clone());
            fields.push(field.clone());
            continue;
        };
        let arrow_known = arrow_there.field_with_name(name).map_err(|e| e.to_string())?.data_type();
        fields.push(match known.data_type() == delta.data_type() {
            true => field.clone(),
            false if widens(field.data_type(), arrow_known) => {
                Arc::new(field.as_ref().clone().with_data_type(arrow_known.clone()))
            }
            false => {
                let (before, now) = (known.data_type(), delta.data_type());
                return Err(format!("column {name} is a {before} in the table and a {now} now"));
            }
        });
    }
    for known in there.fields() {
        if wanted.field_with_name(known.name()).is_err() && !known.is_nullable() {
            return Err(format!("column {} is in the table, is missing now, and has no null", known.name()));
        }
    }
    Ok(Fitted { add, schema: Arc::new(Schema::new(fields)) })
}

/// The same of a table whose columns must be those it has.
///
/// # Errors
/// With the first column that differs, and what it is on both sides.
pub(super) fn same(wanted: &SchemaRef, there: &StructType) -> Result<Fitted, String> {
    let as_delta = delta_columns(wanted).map_err(|e| e.to_string())?;
    let types = |columns: &StructType| -> BTreeMap<String, String> {
        columns.fields().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    };
    let (now, before) = (types(&as_delta), types(there));
    let names: BTreeSet<_> = now.keys().chain(before.keys()).collect();
    let differs = names.into_iter().find(|name| now.get(*name) != before.get(*name));
    if let Some(name) = differs {
        let said = |column: Option<&String>| column.map_or("missing".to_owned(), |t| format!("a {t}"));
        return Err(format!(
            "column {name} is {} in the table and {} now",
            said(before.get(name)),
            said(now.get(name))
        ));
    }
    Ok(Fitted { add: Vec::new(), schema: wanted.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>()))
    }

    fn fitted(wanted: &SchemaRef, there: &SchemaRef) -> Result<Fitted, String> {
        fit(wanted, &delta_columns(there).unwrap(), there)
    }

    #[test]
    fn a_table_follows_what_only_adds() {
        let old = schema(&[("a", DataType::Utf8, false), ("b", DataType::Int64, true), ("gone", DataType::Utf8, true)]);
        let new =
            schema(&[("b", DataType::Int32, true), ("a", DataType::Utf8View, false), ("c", DataType::Date32, true)]);
        let fitted = fitted(&new, &old).unwrap();
        assert_eq!(fitted.add.iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["c"]);
        // Reordered as here, the narrower type as wide as there.
        let written: Vec<_> =
            fitted.schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect();
        assert_eq!(written, [("b", DataType::Int64), ("a", DataType::Utf8View), ("c", DataType::Date32)]);
    }

    #[test]
    fn what_would_change_old_rows_is_refused_with_its_column() {
        let there = schema(&[("a", DataType::Int32, false)]);
        let refused = |fields: &[(&str, DataType, bool)]| fitted(&schema(fields), &there).unwrap_err();
        assert_eq!(refused(&[("a", DataType::Utf8, false)]), "column a is a integer in the table and a string now");
        assert_eq!(refused(&[("a", DataType::Int64, false)]), "column a is a integer in the table and a long now");
        let message = "column a is in the table, is missing now, and has no null";
        assert_eq!(refused(&[]), message);
        let message = "column b is missing in the table and has no null";
        assert_eq!(refused(&[("a", DataType::Int32, false), ("b", DataType::Utf8, false)]), message);
    }
}
