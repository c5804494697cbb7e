//! Where in the text the reason stands why a query cannot run continuously.

use datafusion::sql::sqlparser::{
    ast::{
        Expr, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, Statement, TableFactor, Visit,
        Visitor,
    },
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::Span,
};
use std::ops::ControlFlow;

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character of the line.
    pub column: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Place {
    pub(super) fn of(span: Span) -> Option<Self> {
        (span.start.line > 0).then_some(Self { line: span.start.line, column: span.start.column })
    }

    /// As sqlparser ends its messages: `… at Line: 3, Column: 14`.
    pub(super) fn in_message(message: &str) -> Option<Self> {
        let (_, rest) = message.rsplit_once("Line: ")?;
        let (line, rest) = rest.split_once(", Column: ")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { line: line.trim().parse().ok()?, column: digits.parse().ok()? })
    }
}

/// A part of a query, to point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Query,
    From,
    GroupBy,
    /// The call of `tumble`, `hop` or `session`.
    Window,
    /// A column of the SELECT list, by number.
    Column(usize),
}

/// Where the parts of a query stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    query: Option<Place>,
    from: Option<Place>,
    group_by: Option<Place>,
    window: Option<Place>,
    columns: Vec<Option<Place>>,
}

impl Places {
    pub fn of(&self, part: Part) -> Option<Place> {
        match part {
            Part::Query => self.query,
            Part::From => self.from,
            Part::GroupBy => self.group_by,
            Part::Window => self.window.or(self.group_by),
            Part::Column(at) => self.columns.get(at).copied().flatten(),
        }
        .or(self.query)
    }
}

/// What is wrong, and where.
pub(super) type Refusal = (Option<Place>, String);

/// Functions whose result depends on the order in which events come, and what to take instead.
const ORDERED: [(&str, &str); 7] = [
    ("array_agg", "distinct_count(…) counts values"),
    ("string_agg", "distinct_count(…) counts values"),
    ("first_value", "min_by(…, event_time) gives that of the earliest event"),
    ("last_value", "max_by(…, event_time) gives that of the latest event"),
    ("nth_value", "min(…) and max(…) do not depend on it"),
    ("any_value", "min(…) and max(…) do not depend on it"),
    ("grouping", "a model groups by all of its columns"),
];

/// Reads the text without planning it: refuses what has no continuous meaning, and says where the rest stands.
/// A text that is no SQL passes: planning it says so better.
pub(super) fn read(text: &str) -> Result<Places, Refusal> {
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, text) else { return Ok(Places::default()) };
    let refuse = |span: Span, reason: &str| Err((Place::of(span), reason.to_owned()));
    let [Statement::Query(query)] = &statements[..] else {
        let span = statements.get(1).or(statements.first()).map_or(Span::empty(), Spanned::span);
        return refuse(span, "a model is one SELECT, and nothing else");
    };
    if let Some(with) = &query.with {
        return refuse(with.span(), "WITH is not possible: another model's rows can be read FROM live.<model>");
    }
    if let Some(order_by) = &query.order_by {
        return refuse(order_by.span(), "ORDER BY has no end to wait for: sort where you query");
    }
    if let Some(limit) = &query.limit_clause {
        return refuse(limit.span(), "LIMIT has no end to wait for: limit where you query");
    }
    if let Some(fetch) = &query.fetch {
        return refuse(fetch.span(), "FETCH has no end to wait for: limit where you query");
    }
    let SetExpr::Select(select) = query.body.as_ref() else {
        return refuse(query.span(), "it must be one SELECT: make a model of each part, or filter with WHERE … OR …");
    };
    check_select(select)?;
    let mut walk = Walk { depth: 0, refusal: None };
    let _ = query.visit(&mut walk);
    if let Some(refusal) = walk.refusal {
        return Err(refusal);
    }
    Ok(places(query, select))
}

fn check_select(select: &Select) -> Result<(), Refusal> {
    let refuse = |span: Span, reason: &str| Err((Place::of(span), reason.to_owned()));
    if select.distinct.is_some() {
        return refuse(select.span(), "SELECT DISTINCT is not possible: groups are distinct already");
    }
    let [from] = &select.from[..] else {
        let span = select.from.get(1).map_or(select.span(), Spanned::span);
        return refuse(span, "it must read from one table: events, or live.<model>");
    };
    if let Some(join) = from.joins.first() {
        return refuse(join.span(), "a JOIN is not possible: the other side has no end in event time");
    }
    if !matches!(from.relation, TableFactor::Table { .. }) {
        return refuse(from.relation.span(), "it must read from a table: events, or live.<model>");
    }
    if let Some(qualify) = &select.qualify {
        return refuse(qualify.span(), "QUALIFY is not possible: HAVING filters groups");
    }
    match &select.group_by {
        GroupByExpr::All(_) => {
            refuse(select.group_by.span(), "name the columns: GROUP BY tumble(event_time, …), column")
        }
        GroupByExpr::Expressions(groups, _) if groups.is_empty() => {
            refuse(select.span(), "it has no GROUP BY tumble(event_time, INTERVAL '1 minute'): no window, no end")
        }
        GroupByExpr::Expressions(_, modifiers) if !modifiers.is_empty() => {
            refuse(select.group_by.span(), "WITH ROLLUP, CUBE and TOTALS are not possible: make a model of each")
        }
        GroupByExpr::Expressions(groups, _) => {
            let several = |e: &&Expr| matches!(e, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_));
            match groups.iter().find(several) {
                Some(sets) => refuse(
                    Place::of(sets.span()).map_or(select.group_by.span(), |_| sets.span()),
                    "grouping sets are not possible: make a model of each",
                ),
                None => Ok(()),
            }
        }
    }
}

/// Looks for what is not possible anywhere in an expression.
struct Walk {
    depth: usize,
    refusal: Option<Refusal>,
}

impl Walk {
    fn refuse(&mut self, span: Span, reason: String) -> ControlFlow<()> {
        self.refusal = Some((Place::of(span), reason));
        ControlFlow::Break(())
    }
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > 1 {
            return self.refuse(query.span(), "a subquery is not possible: it has no end to wait for".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = last_name(&function.name);
        if function.over.is_some() {
            let reason =
                format!("{name}(…) OVER … is not possible: it looks across windows. Query live.<model> for that");
            return self.refuse(function.name.span(), reason);
        }
        if let Some((_, instead)) = ORDERED.iter().find(|(ordered, _)| *ordered == name) {
            let reason = format!("{name} depends on the order in which events come; {instead}");
            return self.refuse(function.name.span(), reason);
        }
        ControlFlow::Continue(())
    }
}

fn last_name(name: &ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map_or(String::new(), |ident| ident.value.to_lowercase())
}

fn places(query: &Query, select: &Select) -> Places {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return Places::default() };
    let window = groups
        .iter()
        .find(|e| matches!(e, Expr::Function(f) if matches!(&*last_name(&f.name), "tumble" | "hop" | "session")));
    Places {
        query: Place::of(query.span()),
        from: select.from.first().and_then(|from| Place::of(from.span())),
        group_by: groups.first().and_then(|group| Place::of(group.span())),
        window: window.and_then(|expr| Place::of(expr.span())),
        columns: select.projection.iter().map(|item: &SelectItem| Place::of(item.span())).collect(),
    }
}
