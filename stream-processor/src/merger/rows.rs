//! Panes as rows: from Arrow columns to the groups and measures that are published.

use crate::{LiveModel, OutputColumn, ProcessorError};
use arrow::datatypes::Field;
use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType},
    util::display::array_value_to_string,
};
use sluice_events::{EventTime, Kpi, Measure, PaneState};
use std::{collections::BTreeMap, sync::Arc};

/// Group columns with their values.
pub(crate) type Group = BTreeMap<String, Option<String>>;
/// Measures with their values.
pub(crate) type Measures = BTreeMap<String, Measure>;
/// The panes of a window by their group's key.
pub(crate) type Rows = BTreeMap<String, (Group, Measures)>;

/// Columns before a model's own in its pane schema: start and end.
const BOUNDS: usize = 2;

/// Columns of the lake table of a model: those of its panes, `_version`, `_closed_by`.
pub(super) fn sealed_schema(model: &LiveModel) -> SchemaRef {
    let mut fields: Vec<Field> = model.pane_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("_version", DataType::Int32, false));
    fields.push(Field::new("_closed_by", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Rows of the lake table.
pub(super) fn sealed_rows(
    model: &LiveModel,
    panes: &RecordBatch,
    versions: Vec<i32>,
    closed_by: &str,
) -> Result<RecordBatch, ProcessorError> {
    let mut columns = panes.columns().to_vec();
    columns.push(Arc::new(Int32Array::from(versions)));
    columns.push(Arc::new(StringArray::from(vec![closed_by; panes.num_rows()])));
    Ok(RecordBatch::try_new(sealed_schema(model), columns)?)
}

fn text(column: &ArrayRef, row: usize) -> Result<Option<String>, ProcessorError> {
    Ok(if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) })
}

pub(crate) fn group_key(group: &Group) -> String {
    // As an id does it, so that no two groups have one key.
    Kpi::id_of("", EventTime::new(0), EventTime::new(0), group)
}

/// The group of a row of panes.
pub(super) fn group_of(model: &LiveModel, panes: &RecordBatch, row: usize) -> Result<Group, ProcessorError> {
    let columns = model.columns.iter().zip(&panes.columns()[BOUNDS..]).filter(|(spec, _)| spec.is_group);
    columns.map(|(spec, column)| Ok((spec.name.clone(), text(column, row)?))).collect()
}

/// The measures of a row of panes.
pub(super) fn measures_of(model: &LiveModel, panes: &RecordBatch, row: usize) -> Result<Measures, ProcessorError> {
    let columns = model.columns.iter().zip(&panes.columns()[BOUNDS..]).filter(|(spec, _)| !spec.is_group);
    columns.map(|(spec, column)| Ok((spec.name.clone(), measure(column, row)?))).collect()
}

/// The panes of one window, by group.
pub(crate) fn read(model: &LiveModel, panes: &RecordBatch) -> Result<Rows, ProcessorError> {
    let mut rows = Rows::new();
    for row in 0..panes.num_rows() {
        let group = group_of(model, panes, row)?;
        rows.insert(group_key(&group), (group, measures_of(model, panes, row)?));
    }
    Ok(rows)
}

/// Rows of a model's lake table as the panes that were published, columns as its pane schema.
///
/// # Errors
/// When the rows are not of the model.
pub fn sealed_panes(model: &LiveModel, panes: &RecordBatch) -> Result<Vec<Kpi>, ProcessorError> {
    let bound = |column: usize, row: usize| {
        EventTime::new(panes.column(column).as_primitive::<TimestampMillisecondType>().value(row))
    };
    let pane = |row| {
        let (group, measures) = (group_of(model, panes, row)?, measures_of(model, panes, row)?);
        let (window_start, window_end) = (bound(0, row), bound(1, row));
        Ok(Kpi {
            id: Kpi::id_of(&model.name, window_start, window_end, &group),
            model: model.name.clone(),
            window_start,
            window_end,
            group,
            measures,
            state: PaneState::Sealed,
            version: 1,
            sequence: 0,
            closed_by: None,
            completeness: 1.0,
        })
    };
    (0..panes.num_rows()).map(pane).collect()
}

fn measure(column: &ArrayRef, row: usize) -> Result<Measure, ProcessorError> {
    if column.is_null(row) {
        return Ok(Measure::Null);
    }
    Ok(match column.data_type() {
        DataType::Int64 => Measure::Long(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Measure::Double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, _) => Measure::Text(column.as_primitive::<Decimal128Type>().value_as_string(row)),
        data_type if data_type.is_integer() => {
            let wide = cast(&column.slice(row, 1), &DataType::Int64)?;
            Measure::Long(wide.as_primitive::<Int64Type>().value(0))
        }
        DataType::Float32 | DataType::Float16 => {
            let wide = cast(&column.slice(row, 1), &DataType::Float64)?;
            Measure::Double(wide.as_primitive::<Float64Type>().value(0))
        }
        _ => text(column, row)?.map_or(Measure::Null, Measure::Text),
    })
}

/// The measures of a known series in a window without events.
pub(super) fn zeros(model: &LiveModel) -> Measures {
    let zero = |data_type: &DataType| match data_type {
        DataType::Float64 => Measure::Double(0.0),
        DataType::Decimal128(_, scale) => Measure::Text(format!("{:.*}", usize::try_from(*scale).unwrap_or(0), 0.0)),
        _ => Measure::Long(0),
    };
    let value = |c: &OutputColumn| if c.is_additive { zero(&c.data_type) } else { Measure::Null };
    model.columns.iter().filter(|c| !c.is_group).map(|c| (c.name.clone(), value(c))).collect()
}
