//! Making those parts of a table anew that a change asks for, with the result of making all of it.

use crate::{
    GoldModel, Partition, Run, RunError, Unit,
    partition::{MARGIN, NEAR, ranges},
    views::{TIMES, register_views},
};
use arrow::{
    array::AsArray,
    datatypes::{DataType, Date32Type},
};
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider},
    common::JoinType,
    dataframe::DataFrame,
    error::DataFusionError,
    execution::SessionStateBuilder,
    logical_expr::{Expr, not},
    prelude::{SessionContext, cast, ident, lit},
    scalar::ScalarValue,
};
use sluice_sinks::lake::{Changes, Day, DeltaTable, SCHEMAS, date_column, on_dates};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const MICROS_A_DAY: i64 = 86_400_000_000;
/// Where the views are.
const VIEWS: &str = "public";

/// How much of a table is made anew.
pub(crate) enum Scope {
    /// Nothing: its inputs have other files, and the same rows.
    Nothing,
    /// What hangs on these days of its inputs.
    Days(BTreeSet<Day>),
    /// All of it.
    Whole,
}

/// A session that knows the tables, and the tables it knows.
pub(crate) struct Inputs<'a> {
    pub context: &'a SessionContext,
    pub tables: &'a BTreeMap<String, DeltaTable>,
    /// Of tables that are filed by something else than days.
    pub units: &'a BTreeMap<String, Unit>,
}

impl Inputs<'_> {
    fn unit(&self, table: &str) -> Unit {
        self.units.get(table).copied().unwrap_or(Unit::Day)
    }

    /// What has changed since the run that made the table last. What somebody else did to the table itself makes it whole.
    pub async fn scope(&self, model: &GoldModel, last: &Run) -> Result<Scope, RunError> {
        let name = model.table();
        let (Some(table), Some(version)) = (self.tables.get(&name), last.version) else { return Ok(Scope::Whole) };
        if Changes::since(&name, table, version).await? != Changes::Dates(BTreeSet::new()) {
            return Ok(Scope::Whole);
        }
        let partition = model.header.partition.as_ref();
        let is_filed = partition.is_some_and(|by| date_column(table).as_deref() == Some(by.column()));
        let mut days = BTreeSet::new();
        for name in &model.reads {
            let changes = match (self.tables.get(name), last.inputs.get(name)) {
                (None, None) => continue,
                (Some(table), Some(version)) => Changes::since(name, table, *version).await?,
                _ => Changes::Any,
            };
            match changes {
                Changes::Dates(dates) if dates.is_empty() => {}
                Changes::Dates(dates) if is_filed => {
                    days.extend(dates.iter().flat_map(|date| self.unit(name).days_of(*date)));
                }
                _ => return Ok(Scope::Whole),
            }
        }
        Ok(if days.is_empty() { Scope::Nothing } else { Scope::Days(days) })
    }

    /// The rows of the parts that hang on these days, and the dates of these parts; none: so many that all may be made.
    pub async fn parts(
        &self,
        model: &GoldModel,
        partition: &Partition,
        days: &BTreeSet<Day>,
    ) -> Result<Option<(DataFrame, BTreeSet<Day>)>, DataFusionError> {
        let (unit, column) = (partition.unit, partition.column());
        let mut parts: BTreeSet<Day> = days.iter().map(|day| unit.part_of(*day)).collect();
        let table = self.context.table(model.table()).await?;
        if let Some(until) = &partition.until {
            for [first, last] in near(&table, [&partition.of, until], days).await? {
                parts.extend((first..=last).map(|day| unit.part_of(day)));
            }
        }
        let there = table.clone().select(vec![ident(column)])?.distinct()?.count().await?;
        loop {
            if parts.len() * 2 > there {
                return Ok(None);
            }
            let read = read_for(&table, partition, &parts).await?;
            let rows = self.over(model, &read).await?.sql(&model.sql).await?;
            let rows = rows.with_column(column, partition.date())?.filter(on_dates(column, &parts))?;
            if partition.until.is_none() {
                return Ok(Some((rows, parts)));
            }
            let rows = rows.cache().await?;
            // A row that has its like in another part is made of rows that are far from each other.
            let keys: Vec<&str> = model.header.key.iter().map(String::as_str).collect();
            let others = table.clone().filter(not(on_dates(column, &parts)))?;
            let alike = others.join(rows.clone(), JoinType::LeftSemi, &keys, &keys, None)?;
            let more = dates(alike.select(vec![ident(column)])?.distinct()?).await?;
            if more.is_empty() {
                return Ok(Some((rows, parts)));
            }
            parts.extend(more.into_iter().map(|[part]| part));
        }
    }

    /// A session that knows what a model reads, with the rows of these days only where rows have a date.
    async fn over(&self, model: &GoldModel, days: &BTreeSet<Day>) -> Result<SessionContext, DataFusionError> {
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let state = SessionStateBuilder::new_from_existing(self.context.state()).with_catalog_list(catalogs).build();
        let context = SessionContext::new_with_state(state);
        let catalog = MemoryCatalogProvider::new();
        for schema in SCHEMAS.iter().map(|(schema, ..)| *schema).chain([VIEWS]) {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
        }
        context.register_catalog("datafusion", Arc::new(catalog));
        for (name, table) in self.tables.iter().filter(|(name, _)| model.reads.contains(*name)) {
            let frame = self.context.table(name).await?;
            let ranges = ranges(days).into_iter();
            let frame = match (date_column(table), TIMES.iter().find(|(table, _)| table == name)) {
                (Some(column), _) => {
                    let from = |day| self.unit(name).part_of(day);
                    let dates =
                        ranges.map(|days| [from(days.start), days.end].map(|day| ScalarValue::Date32(Some(day))));
                    frame.filter(within(&column, dates))?
                }
                (None, Some((_, column))) => {
                    frame.filter(within(column, ranges.map(|days| [days.start, days.end].map(moment))))?
                }
                (None, None) => frame,
            };
            context.register_table(name, frame.into_view())?;
        }
        register_views(&context).await?;
        Ok(context)
    }
}

fn moment(day: Day) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(i64::from(day) * MICROS_A_DAY), Some("UTC".into()))
}

/// Rows whose column lies in one of these ranges.
fn within(column: &str, ranges: impl Iterator<Item = [ScalarValue; 2]>) -> Expr {
    let ranges = ranges.map(|[from, to]| ident(column).gt_eq(lit(from)).and(ident(column).lt(lit(to))));
    ranges.reduce(Expr::or).unwrap_or_else(|| lit(false))
}

/// First and last day of what those rows are made of that lie near to these days.
async fn near(
    table: &DataFrame,
    [first, last]: [&str; 2],
    days: &BTreeSet<Day>,
) -> Result<Vec<[Day; 2]>, DataFusionError> {
    let touches = ranges(days).into_iter().map(|days| {
        let (from, to) = (moment(days.start - NEAR), moment(days.end + NEAR));
        ident(first).lt(lit(to)).and(ident(last).gt_eq(lit(from)))
    });
    let touches = touches.reduce(Expr::or).unwrap_or_else(|| lit(false));
    let day = |column: &str| cast(ident(column), DataType::Date32).alias(column);
    dates(table.clone().filter(touches)?.select(vec![day(first), day(last)])?.distinct()?).await
}

/// The days of the inputs that rows of these parts are made of.
async fn read_for(
    table: &DataFrame,
    partition: &Partition,
    parts: &BTreeSet<Day>,
) -> Result<BTreeSet<Day>, DataFusionError> {
    let mut read: BTreeSet<Day> = parts.iter().flat_map(|part| partition.unit.days_of(*part)).collect();
    if let Some(until) = &partition.until {
        let column = partition.column();
        let last = cast(ident(until), DataType::Date32).alias("last");
        let ends = table.clone().filter(on_dates(column, parts))?.select(vec![ident(column), last])?.distinct()?;
        for [part, last] in dates(ends).await? {
            read.extend(part..=last);
        }
        let margins =
            ranges(&read).into_iter().flat_map(|days| [days.start - MARGIN..days.start, days.end..days.end + MARGIN]);
        read.extend(margins.flatten().collect::<Vec<_>>());
    }
    Ok(read)
}

/// The rows of a question whose columns are dates.
async fn dates<const N: usize>(frame: DataFrame) -> Result<Vec<[Day; N]>, DataFusionError> {
    let mut rows = Vec::new();
    for batch in frame.collect().await? {
        let columns: [_; N] = std::array::from_fn(|at| batch.column(at).as_primitive::<Date32Type>());
        rows.extend((0..batch.num_rows()).map(|row| columns.map(|column| column.value(row))));
    }
    Ok(rows)
}
