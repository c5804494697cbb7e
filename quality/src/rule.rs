//! What is asked of rows: SQL rules, values that are there, values by their hash.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::cast,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
};
use datafusion::{
    common::{DFSchema, DataFusionError, tree_node::TreeNode},
    logical_expr::{Expr, Volatility},
    physical_plan::PhysicalExpr,
    prelude::SessionContext,
    sql::sqlparser::{
        ast::{Expr as SqlExpr, Query, Spanned, Visit, Visitor},
        dialect::GenericDialect,
        parser::Parser,
        tokenizer::{Span, Token},
    },
};
use std::{
    ops::ControlFlow,
    sync::{Arc, LazyLock},
};
use xxhash_rust::xxh3::xxh3_64;

/// A SQL expression that is true or not for each row by itself.
#[derive(Clone, Debug)]
pub(crate) struct Rule(Arc<dyn PhysicalExpr>);

impl Rule {
    /// Compiles a text against the columns it may name. The error says where, when it is known.
    pub fn compile(text: &str, schema: &SchemaRef) -> Result<Self, String> {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(|e| e.to_string())?;
        let syntax = parser.parse_expr().map_err(|e| e.to_string())?;
        let next = parser.peek_token();
        if next.token != Token::EOF {
            return Err(at(next.span, &format!("'{}' is not expected after the end of the rule", next.token)));
        }
        let mut walk = Walk { schema, refusal: None };
        let _ = syntax.visit(&mut walk);
        if let Some(refusal) = walk.refusal {
            return Err(refusal);
        }
        // Making one takes longer than everything else here.
        static CONTEXT: LazyLock<SessionContext> = LazyLock::new(SessionContext::new);
        let context = &*CONTEXT;
        let columns = DFSchema::try_from(schema.as_ref().clone()).map_err(|e| first_line(&e))?;
        let expr = context.parse_sql_expr(text, &columns).map_err(|e| first_line(&e))?;
        if let Some(reason) = refusal(&expr) {
            return Err(reason);
        }
        let physical = context.create_physical_expr(expr, &columns).map_err(|e| first_line(&e))?;
        // What cannot be computed for no row at all can be for none, such as a pattern that is no pattern.
        physical.evaluate(&RecordBatch::new_empty(schema.clone())).map_err(|e| first_line(&e))?;
        match physical.data_type(schema).map_err(|e| first_line(&e))? {
            DataType::Boolean => Ok(Self(physical)),
            other => Err(format!("it is a {other}, and must be true or false, such as unit_price > 0")),
        }
    }

    /// Whether each row meets it. A row for which it is unknown does not, nor one for which it cannot be computed, such as
    /// a cast of a text that is no number: what a row brings must not stop the stream.
    pub fn met(&self, batch: &RecordBatch) -> BooleanBuffer {
        let rows = batch.num_rows();
        match self.0.evaluate(batch).and_then(|value| value.into_array(rows)) {
            Ok(values) if values.data_type() == &DataType::Boolean => is_true(values.as_boolean()),
            _ if rows <= 1 => BooleanBuffer::new_unset(rows),
            // Some row is at fault; the others are judged without it.
            _ => {
                let half = rows / 2;
                let mut met = arrow::array::BooleanBufferBuilder::new(rows);
                met.append_buffer(&self.met(&batch.slice(0, half)));
                met.append_buffer(&self.met(&batch.slice(half, rows - half)));
                met.finish()
            }
        }
    }
}

fn is_true(values: &BooleanArray) -> BooleanBuffer {
    match values.nulls() {
        Some(known) => values.values() & known.inner(),
        None => values.values().clone(),
    }
}

/// `line 1, column 9: reason`.
fn at(span: Span, reason: &str) -> String {
    match span.start.line {
        0 => reason.to_owned(),
        line => format!("line {line}, column {}: {reason}", span.start.column),
    }
}

fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

/// Looks for what a rule may not have, while it is known where it stands.
struct Walk<'a> {
    schema: &'a SchemaRef,
    refusal: Option<String>,
}

impl Walk<'_> {
    fn refuse(&mut self, span: Span, reason: &str) -> ControlFlow<()> {
        self.refusal = Some(at(span, reason));
        ControlFlow::Break(())
    }
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.refuse(query.span(), "a subquery is not possible: a rule looks at one row")
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
        match expr {
            SqlExpr::Identifier(column) => {
                let name =
                    if column.quote_style.is_some() { column.value.clone() } else { column.value.to_lowercase() };
                if self.schema.column_with_name(&name).is_some() {
                    return ControlFlow::Continue(());
                }
                self.refuse(column.span, &no_column(&name, self.schema))
            }
            SqlExpr::Function(function) if function.over.is_some() => {
                self.refuse(function.name.span(), "a window function is not possible: a rule looks at one row")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Says which columns there are.
pub(crate) fn no_column(name: &str, schema: &SchemaRef) -> String {
    let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    format!("there is no column '{name}'; there are {}", known.join(", "))
}

/// Why an expression has no answer of its own for each row, the same every time.
fn refusal(expr: &Expr) -> Option<String> {
    let mut reason = None;
    let _ = expr.apply(|part| {
        let function = match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => call.func.name(),
            Expr::AggregateFunction(call) => {
                let name = call.func.name();
                reason = Some(format!("{name}(…) is over many rows: a rule looks at one row"));
                return Ok(datafusion::common::tree_node::TreeNodeRecursion::Stop);
            }
            _ => return Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue),
        };
        reason = Some(format!(
            "{function}() says another thing each time: a row read again must be judged as before. Compare with columns, \
             such as _log_time"
        ));
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Stop)
    });
    reason
}

/// Which rows of a column are neither null nor an empty text.
pub(crate) fn filled(column: &ArrayRef) -> BooleanBuffer {
    let rows = column.len();
    let texts = match column.data_type() {
        DataType::Utf8View => BooleanBuffer::collect_bool(rows, |row| column.as_string_view().views()[row] as u32 != 0),
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().offsets();
            BooleanBuffer::collect_bool(rows, |row| offsets[row] != offsets[row + 1])
        }
        _ => BooleanBuffer::new_set(rows),
    };
    match column.logical_nulls() {
        Some(known) => &texts & known.inner(),
        None => texts,
    }
}

/// Hashes each value of a column by its text; none for null.
pub(crate) fn hash_texts(column: &dyn Array, mut take: impl FnMut(Option<u64>)) -> Result<(), ArrowError> {
    let cast_column;
    let texts = match column.as_string_view_opt() {
        Some(texts) => texts,
        None => {
            cast_column = cast(column, &DataType::Utf8View)?;
            cast_column.as_string_view()
        }
    };
    texts.iter().for_each(|text| take(text.map(|text| xxh3_64(text.as_bytes()))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Int32Array, StringViewArray},
        datatypes::{Field, Schema},
    };

    fn batch() -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("kind", DataType::Utf8View, true), Field::new("n", DataType::Int32, true)]);
        let kinds: ArrayRef = Arc::new(StringViewArray::from(vec![Some("12"), Some(""), None, Some("x"), Some("7")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(-1), None, Some(4), Some(0)]));
        RecordBatch::try_new(Arc::new(schema), vec![kinds, numbers]).unwrap()
    }

    fn met(rule: &str) -> Vec<bool> {
        Rule::compile(rule, &batch().schema()).unwrap().met(&batch()).iter().collect()
    }

    #[test]
    fn unknown_is_not_met_and_a_row_that_cannot_be_judged_harms_no_other() {
        assert_eq!(met("n >= 0"), [true, false, false, true, true]);
        assert_eq!(met("n IS NULL OR n >= 0"), [true, false, true, true, true]);
        assert_eq!(met("true"), [true; 5]);
        assert_eq!(met("CAST(kind AS INT) > 0"), [true, false, false, false, true]);
        assert_eq!(met("10 / n > 0 OR kind = 'x'"), [true, false, false, true, false]);
        assert_eq!(filled(batch().column(0)).iter().collect::<Vec<_>>(), [true, false, false, true, true]);
        assert_eq!(filled(batch().column(1)).iter().collect::<Vec<_>>(), [true, true, false, true, true]);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_place() {
        for (rule, told) in [
            ("n >= ", "Expected"),
            ("n >=\n  m", "line 2, column 3: there is no column 'm'; there are kind, n"),
            ("n > 0 kind", "line 1, column 7: 'kind' is not expected"),
            ("n > 0; SELECT 1", "line 1, column 6"),
            ("n + 1", "it is a Int64, and must be true or false"),
            ("random() > 0.5", "random() says another thing each time"),
            ("n > 0 AND now() > TIMESTAMP '2024-01-01'", "now() says another thing each time"),
            ("current_date > DATE '2024-01-01'", "says another thing each time"),
            ("count(*) > 1", "count(…) is over many rows"),
            ("row_number() OVER () > 1", "a window function"),
            ("n IN (SELECT 1)", "a subquery is not possible"),
            ("nothing(n)", "nothing"),
            ("regexp_like(kind, '(')", "Regular expression did not compile"),
            ("kind ~ '('", "egular expression did not compile"),
            ("", "Expected"),
        ] {
            let error = Rule::compile(rule, &batch().schema()).unwrap_err();
            assert!(error.contains(told), "{rule}: {error}");
        }
    }
}
