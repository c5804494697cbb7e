//! Questions as clients of PostgreSQL put them, in words that DataFusion knows.

use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, Array, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
        Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
        TableWithJoins, TimezoneInfo, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};
use datafusion_postgres::pgwire::api::Type;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem,
    ops::ControlFlow,
};

/// What only those questions have in them that the library knows by their words.
const KNOWN_BY_WORDS: [&str; 4] =
    ["pg_publication", "pg_policy ", "pg_statistic_ext", "string_to_array(current_setting("];
/// Tables of the catalog that the library does not look for there by itself.
const OF_THE_CATALOG: [&str; 6] =
    ["pg_available_extensions", "pg_policies", "pg_sequences", "pg_stat_activity", "pg_user", "pg_user_mappings"];
const CATALOG: &str = "pg_catalog";
/// How PostgreSQL calls what has no name.
const NAMELESS: &str = "?column?";
/// Descriptions that nobody gave, of things whose number is often not known.
const DESCRIPTIONS: [&str; 2] = ["col_description", "obj_description"];
/// What `SHOW ALL` asks.
const ALL_SETTINGS: &str = "SELECT name, setting, short_desc AS description FROM pg_catalog.pg_settings ORDER BY name";
/// Tables of the catalog without rows: there are no defaults and no sequences.
const NEVER_FILLED: [&str; 2] = ["pg_attrdef", "pg_sequence"];
/// Of one row from many, as questions about the catalog have them.
const AGGREGATES: [&str; 6] = ["agg(", "count(", "max(", "min(", "sum(", "bool_"];
/// Of an index and its columns, a row for each: there are no indexes.
const EXPANDED: &str = "_pg_expandarray";
/// Templates of `to_char` and the words of `strftime` for them, longer ones before what they begin with.
const TEMPLATES: [(&str, &str); 16] = [
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("IW", "%V"),
    ("ID", "%u"),
    ("AM", "%p"),
];

/// What is known besides the text.
pub(super) struct Asked<'a> {
    /// The types that the client has said its parameters have.
    pub declared: &'a [Option<Type>],
    /// The schema in which the client looks for a table that it calls without one.
    pub schema_of: &'a dyn Fn(&str) -> Option<String>,
}

/// The same question for DataFusion. What cannot be parsed, or needs no other words, stays as it is.
pub(super) fn rewrite<'a>(sql: &'a str, asked: &Asked<'_>) -> Cow<'a, str> {
    if KNOWN_BY_WORDS.iter().any(|words| sql.contains(words)) {
        return Cow::Borrowed(sql);
    }
    let Ok(mut statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) else { return Cow::Borrowed(sql) };
    let before = statements.clone();
    for statement in &mut statements {
        if let Statement::ShowVariable { variable } = statement
            && matches!(&variable[..], [all] if all.value.eq_ignore_ascii_case("all"))
            && let Ok(mut other) = Parser::parse_sql(&PostgreSqlDialect {}, ALL_SETTINGS)
        {
            *statement = other.remove(0);
        }
        let mut seen = Seen::default();
        let _ = Visit::visit(statement, &mut seen);
        let _ = VisitMut::visit(statement, &mut Rewriter { asked, seen: &seen });
        if let Statement::Query(query) = statement
            && !seen.catalog
            && let SetExpr::Select(select) = &mut *query.body
        {
            name_columns(select);
        }
    }
    if statements == before {
        return Cow::Borrowed(sql);
    }
    let texts: Vec<String> = statements.iter().map(Statement::to_string).collect();
    Cow::Owned(texts.join("; "))
}

/// What a statement names.
#[derive(Default)]
struct Seen {
    /// Tables of its own, by `WITH`.
    own: HashSet<String>,
    /// Whether it looks things up in the catalog.
    catalog: bool,
}

impl Visitor for Seen {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.own.extend(tables.map(|table| table.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.catalog |= is_of_the_catalog(name);
        ControlFlow::Continue(())
    }
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}

fn is_of_the_catalog(name: &ObjectName) -> bool {
    last(name).is_some_and(|name| name.value.to_lowercase().starts_with("pg_"))
}

struct Rewriter<'a> {
    asked: &'a Asked<'a>,
    seen: &'a Seen,
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn post_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(table)] = &name.0[..]
            && !self.seen.own.contains(&table.value)
        {
            let schema = match OF_THE_CATALOG.iter().any(|known| known.eq_ignore_ascii_case(&table.value)) {
                true => Some(CATALOG.to_owned()),
                false => (self.asked.schema_of)(&table.value),
            };
            if let Some(schema) = schema {
                name.0.insert(0, ObjectNamePart::Identifier(Ident::with_quote('"', schema)));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            for number in limit.iter_mut().chain(offset.iter_mut().map(|offset| &mut offset.value)) {
                if matches!(number, Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. })) {
                    *number = cast(number.clone(), DataType::BigInt(None));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_twins(select);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Subquery(query) => match looks_into(query) {
                Some(tables) if tables.iter().all(|table| NEVER_FILLED.contains(&table.as_str())) => {
                    if let Some(nothing) = parsed("CAST(NULL AS TEXT)") {
                        *expression = nothing;
                    }
                }
                Some(_) => aggregate_lookup(query),
                None => {}
            },
            Expr::Function(function) => {
                if let Some(other) = other_function(function, self.seen.catalog) {
                    *expression = other;
                }
            }
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                if let Some(elements) = quoted_elements(right) {
                    **right = elements;
                }
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
                let is_not = if *negated { "!~" } else { "~" };
                if let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(similar), .. }) = &**pattern
                    && let Some(matched) = parsed(&format!("{expr} {is_not} {}", text(&regex_of(similar))))
                {
                    *expression = matched;
                }
            }
            Expr::Value(ValueWithSpan { value: Value::UnicodeStringLiteral(letters), .. }) => {
                *expression = text(letters)
            }
            Expr::Cast { data_type, .. } => texts_have_no_length(data_type),
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let [AccessExpr::Dot(Expr::Identifier(field))] = &access_chain[..]
                    && let Some(field) = parsed(&format!("get_field({root}, '{}')", field.value.replace('\'', "''")))
                {
                    *expression = field;
                }
            }
            Expr::Substring { expr, substring_from: Some(pattern), substring_for: None, .. }
                if matches!(&**pattern, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. })) =>
            {
                if let Some(found) = parsed(&format!("(regexp_match({expr}, {pattern}))[1]")) {
                    *expression = found;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } if self.seen.catalog => {
                truth_is_no_text(left, right);
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(escape) = escape_char.as_ref().and_then(|escape| escape.value.clone().into_string())
                    && escape != "\\"
                {
                    *escape_char = None;
                    **pattern = escaped_by_backslash(pattern, &escape);
                }
            }
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => {
                let at = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
                let declared = at.and_then(|at| self.asked.declared.get(at.checked_sub(1)?)?.as_ref());
                if let Some(data_type) = declared.and_then(type_in_sql) {
                    *expression = cast(expression.clone(), data_type);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn parsed(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

fn cast(expression: Expr, data_type: DataType) -> Expr {
    let kind = datafusion::sql::sqlparser::ast::CastKind::Cast;
    Expr::Cast { kind, expr: Box::new(expression), data_type, array: false, format: None }
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

/// The type by which a parameter is read as its client sends it. Texts, decimals and what is not said take the type of what they
/// are compared with.
fn type_in_sql(declared: &Type) -> Option<DataType> {
    Some(match *declared {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::SmallInt(None),
        Type::INT4 => DataType::Integer(None),
        Type::INT8 => DataType::BigInt(None),
        Type::FLOAT4 => DataType::Real,
        Type::FLOAT8 => DataType::DoublePrecision,
        Type::DATE => DataType::Date,
        Type::TIMESTAMP => DataType::Timestamp(None, TimezoneInfo::None),
        Type::TIMESTAMPTZ => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        _ => return None,
    })
}

/// The tables of the catalog in which a question within another looks something up, if it does.
fn looks_into(query: &Query) -> Option<Vec<String>> {
    let SetExpr::Select(select) = &*query.body else { return None };
    if select.from.is_empty() || query.limit_clause.is_some() || select.selection.is_none() {
        return None;
    }
    let table_of = |from: &TableWithJoins| match &from.relation {
        TableFactor::Table { name, args: None, .. } if is_of_the_catalog(name) => {
            Some(last(name)?.value.to_lowercase())
        }
        _ => None,
    };
    select.from.iter().map(table_of).collect()
}

/// Such a look gives one row; DataFusion wants it aggregated to believe that.
fn aggregate_lookup(query: &mut Query) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    if let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] =
        &mut select.projection[..]
    {
        let words = column.to_string().to_lowercase();
        let is_aggregated = AGGREGATES.iter().any(|name| words.contains(name));
        if !is_aggregated
            && !matches!(column, Expr::Value(_))
            && let Some(aggregated) = parsed(&format!("max({column})"))
        {
            *column = aggregated;
        }
    }
}

/// Compares what is true or not of an index or a column with `'t'`.
fn truth_is_no_text(left: &Expr, right: &mut Expr) {
    let name = match left {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    let is_truth = name.is_some_and(|name| ["indis", "attis", "attnot"].iter().any(|of| name.value.starts_with(of)));
    if is_truth && matches!(right, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. })) {
        *right = cast(right.clone(), DataType::Boolean);
    }
}

/// The values of a question of one column, as a list.
fn listed(query: &Query) -> Option<Expr> {
    let mut query = query.clone();
    // The order of a list says nothing in the catalog, and would be one of columns that are no longer there.
    query.order_by = None;
    let SetExpr::Select(select) = &mut *query.body else { return None };
    if select.from.iter().any(|from| matches!(from.relation, TableFactor::Table { args: Some(_), .. })) {
        // The options of a table, which none has.
        return parsed("arrow_cast(NULL, 'List(Utf8)')");
    }
    let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] = &mut select.projection[..]
    else {
        return None;
    };
    *column = parsed(&format!("array_agg({column})"))?;
    Some(Expr::Subquery(Box::new(query)))
}

/// What stands for the call of a function that DataFusion does not have, or has with another meaning.
fn other_function(function: &mut Function, in_catalog: bool) -> Option<Expr> {
    let name = last(&function.name)?.value.to_lowercase();
    if DESCRIPTIONS.contains(&&*name) {
        return parsed("CAST(NULL AS TEXT)");
    }
    if name == "array"
        && in_catalog
        && let FunctionArguments::Subquery(query) = &function.args
    {
        return listed(query);
    }
    if name == "timezone"
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(zone), FunctionArg::Unnamed(time)] = &list.args[..]
    {
        return parsed(&format!("(({time}) AT TIME ZONE {zone})"));
    }
    if name == "generate_subscripts"
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array)), _] = &list.args[..]
    {
        return parsed(&format!("unnest(range(1, CAST(coalesce(array_length({array}), 0) AS BIGINT) + 1))"));
    }
    if name == EXPANDED {
        return parsed("named_struct('x', 0, 'n', 0)");
    }
    if name == "to_char"
        && let FunctionArguments::List(list) = &mut function.args
        && let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(template)))] = &mut list.args[..]
        && let Value::SingleQuotedString(template) = &mut template.value
        && let Some(format) = strftime(template)
    {
        *template = format;
    }
    None
}

/// A template of `to_char` as `strftime` has it; none where it has a word that `strftime` has not, or is one of `strftime` already.
fn strftime(template: &str) -> Option<String> {
    if template.contains('%') {
        return None;
    }
    let (mut out, mut rest) = (String::new(), template);
    while let Some(letter) = rest.chars().next() {
        if let Some((quoted, after)) = rest.strip_prefix('"').and_then(|text| text.split_once('"')) {
            out.push_str(quoted);
            rest = after;
            continue;
        }
        let is = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        match TEMPLATES.iter().find(|(word, _)| is(word)) {
            Some((word, format)) => {
                out.push_str(format);
                rest = &rest[word.len()..];
            }
            None if letter.is_alphanumeric() => return None,
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    Some(out)
}

/// The elements of the text of an array, when it has quotes in it, which the library takes for a part of them.
fn quoted_elements(right: &Expr) -> Option<Expr> {
    let literal = match right {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => expr,
        other => other,
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(literal), .. }) = literal else { return None };
    let inner = literal.strip_prefix('{')?.strip_suffix('}')?;
    if !inner.contains(['"', '\\']) {
        return None;
    }
    let (mut elements, mut element, mut is_quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut take = |element: &mut String, was_quoted: bool| {
        let element = mem::take(element);
        match !was_quoted && element.eq_ignore_ascii_case("null") {
            true => elements.push(Expr::value(Value::Null)),
            false => elements.push(text(&element)),
        }
    };
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (is_quoted, was_quoted) = (!is_quoted, true),
            '\\' => element.extend(letters.next()),
            ',' if !is_quoted => {
                take(&mut element, was_quoted);
                was_quoted = false;
            }
            letter => element.push(letter),
        }
    }
    take(&mut element, was_quoted);
    Some(Expr::Array(Array { elem: elements, named: true }))
}

/// A pattern of `SIMILAR TO` as a regular expression: `%` and `_` as for `LIKE`, all of the text.
fn regex_of(similar: &str) -> String {
    let (mut out, mut rest) = ("^(?:".to_owned(), similar.chars());
    while let Some(letter) = rest.next() {
        match letter {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '^' | '$' => out.extend(['\\', letter]),
            '\\' => out.extend(['\\'].into_iter().chain(rest.next())),
            letter => out.push(letter),
        }
    }
    out + ")$"
}

fn texts_have_no_length(data_type: &mut DataType) {
    let is_text = match data_type {
        DataType::CharacterVarying(_) | DataType::CharVarying(_) | DataType::Varchar(Some(_)) => true,
        DataType::Custom(name, _) => {
            last(name).is_some_and(|name| ["name", "char", "bpchar"].contains(&name.value.as_str()))
        }
        _ => false,
    };
    if is_text {
        *data_type = DataType::Text;
    }
}

fn escaped_by_backslash(pattern: &Expr, escape: &str) -> Expr {
    let plain = format!(r"replace({pattern}, '\', '\\')");
    let sql = match escape {
        "" => plain,
        escape => format!(r"replace({plain}, '{}', '\')", escape.replace('\'', "''")),
    };
    parsed(&sql).unwrap_or_else(|| pattern.clone())
}

/// How PostgreSQL calls a column.
fn natural_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        Expr::Function(function) => last(&function.name).map(|name| name.value.to_lowercase()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => natural_name(expr),
        _ => None,
    }
}

/// Names columns that DataFusion would call alike, which it refuses.
fn name_twins(select: &mut Select) {
    // As it calls them: a cast has no name of its own.
    fn key(expression: &Expr) -> String {
        match expression {
            Expr::Cast { expr, .. } | Expr::Nested(expr) => key(expr),
            other => other.to_string(),
        }
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        let key = match item {
            SelectItem::UnnamedExpr(expression) => key(expression),
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            _ => continue,
        };
        let times = seen.entry(key).or_default();
        *times += 1;
        if *times > 1
            && let SelectItem::UnnamedExpr(expression) = item
        {
            let name = natural_name(expression).unwrap_or_else(|| NAMELESS.to_owned());
            let alias = Ident::with_quote('"', format!("{name}_{times}"));
            *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
        }
    }
}

/// Gives the columns of an answer the names that they have in PostgreSQL, where those are single.
fn name_columns(select: &mut Select) {
    let name_of = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expression) => Some(natural_name(expression).unwrap_or_else(|| NAMELESS.to_owned())),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    let mut times: HashMap<String, usize> = HashMap::new();
    for name in select.projection.iter().filter_map(name_of) {
        *times.entry(name).or_default() += 1;
    }
    for item in &mut select.projection {
        let Some(name) = name_of(item).filter(|name| times[name] == 1) else { continue };
        if let SelectItem::UnnamedExpr(expression) = item
            && matches!(expression, Expr::Function(_) | Expr::Value(_))
        {
            *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias: Ident::with_quote('"', name) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_gold(table: &str) -> Option<String> {
        (table == "kpi_rfm").then(|| "gold".to_owned())
    }

    fn rewritten(sql: &str, declared: &[Option<Type>]) -> String {
        rewrite(sql, &Asked { declared, schema_of: &in_gold }).into_owned()
    }

    #[test]
    fn what_datafusion_knows_stays_as_it_is_to_the_letter() {
        for sql in [
            "select  source , amount from silver.orders where amount > 10 -- a note",
            "SELECT a.oid, b.oid FROM x a JOIN x b ON a.oid = b.oid",
            "SELECT '%d' AS d, to_char(order_time, '%Y-%m') AS month FROM silver.orders",
            "this is no SQL",
            "SET search_path = gold",
        ] {
            assert_eq!(rewritten(sql, &[]), sql);
        }
    }

    #[test]
    fn words_of_postgresql_become_those_of_datafusion() {
        let pairs = [
            ("SELECT CAST(a AS character varying(256)) AS a FROM t", "SELECT CAST(a AS TEXT) AS a FROM t"),
            (
                "SELECT a FROM t WHERE a LIKE 'x/_%' ESCAPE '/'",
                r"SELECT a FROM t WHERE a LIKE replace(replace('x/_%', '\', '\\'), '/', '\')",
            ),
            (
                r#"SELECT a FROM t WHERE a = ANY('{"a,b","say \"x\"",NULL,plain}')"#,
                r#"SELECT a FROM t WHERE a = ANY(ARRAY['a,b', 'say "x"', NULL, 'plain'])"#,
            ),
            ("SELECT obj_description(c.oid, 'pg_class') AS d FROM c", "SELECT CAST(NULL AS TEXT) AS d FROM c"),
            (
                "SELECT to_char(t, 'YYYY-MM-DD HH24:MI \"h\"') AS t FROM x",
                "SELECT to_char(t, '%Y-%m-%d %H:%M h') AS t FROM x",
            ),
            ("SELECT to_char(t, 'Day') AS t FROM x", "SELECT to_char(t, 'Day') AS t FROM x"),
            (
                "SELECT (SELECT rngtypid FROM pg_range WHERE rngmultitypid = t.oid) AS r FROM pg_type t",
                "SELECT (SELECT max(rngtypid) FROM pg_range WHERE rngmultitypid = t.oid) AS r FROM pg_type t",
            ),
            (
                "SELECT (SELECT amount FROM t WHERE t.a = u.a) AS r FROM u",
                "SELECT (SELECT amount FROM t WHERE t.a = u.a) AS r FROM u",
            ),
            (
                "SELECT ARRAY(SELECT a FROM pg_t ORDER BY 1) AS l, (x.k).n AS n, substring(b FROM '[0-9]+') AS d FROM x",
                "SELECT (SELECT array_agg(a) FROM pg_t) AS l, get_field((x.k), 'n') AS n, (regexp_match(b, '[0-9]+'))[1] AS d FROM x",
            ),
            (
                "SELECT a FROM t LIMIT $1 OFFSET $2",
                "SELECT a FROM t LIMIT CAST($1 AS BIGINT) OFFSET CAST($2 AS BIGINT)",
            ),
            (
                "SELECT i.indkey FROM pg_index i WHERE i.indisprimary = 't'",
                "SELECT i.indkey FROM pg_index i WHERE i.indisprimary = CAST('t' AS BOOLEAN)",
            ),
            ("SELECT usename FROM pg_user", r#"SELECT usename FROM "pg_catalog".pg_user"#),
            ("SELECT r FROM kpi_rfm", r#"SELECT r FROM "gold".kpi_rfm"#),
            (
                "WITH kpi_rfm AS (SELECT 1 AS r) SELECT r FROM kpi_rfm",
                "WITH kpi_rfm AS (SELECT 1 AS r) SELECT r FROM kpi_rfm",
            ),
        ];
        for (sql, wanted) in pairs {
            assert_eq!(rewritten(sql, &[]), wanted);
        }
    }

    #[test]
    fn columns_have_the_names_of_postgresql_and_none_twice() {
        let pairs = [
            ("SELECT count(*) FROM t", r#"SELECT count(*) AS "count" FROM t"#),
            ("SELECT 1", r#"SELECT 1 AS "?column?""#),
            ("SELECT sum(a), sum(b) FROM t", "SELECT sum(a), sum(b) FROM t"),
            ("SELECT t, CAST(t AS DATE) FROM x", r#"SELECT t, CAST(t AS DATE) AS "t_2" FROM x"#),
            ("SELECT NULL, NULL, NULL", r#"SELECT NULL AS "?column?", NULL AS "?column?_2", NULL AS "?column?_3""#),
            (
                "SELECT oid, 'c', oid FROM pg_class UNION ALL SELECT oid, 'c', oid FROM pg_type",
                r#"SELECT oid, 'c', oid AS "oid_2" FROM pg_class UNION ALL SELECT oid, 'c', oid AS "oid_2" FROM pg_type"#,
            ),
        ];
        for (sql, wanted) in pairs {
            assert_eq!(rewritten(sql, &[]), wanted);
        }
    }

    #[test]
    fn a_parameter_is_read_as_its_client_has_declared_it() {
        let declared = [Some(Type::INT4), None, Some(Type::TEXT), Some(Type::FLOAT8)];
        assert_eq!(
            rewritten("SELECT a FROM t WHERE b > $1 AND c = $2 AND d = $3 AND e < $4", &declared),
            "SELECT a FROM t WHERE b > CAST($1 AS INTEGER) AND c = $2 AND d = $3 AND e < CAST($4 AS DOUBLE PRECISION)"
        );
    }
}
