//! Questions as clients of PostgreSQL put them, in words that DataFusion knows.

use super::catalog::PG_CATALOG;
use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, Array, BinaryOperator, ContextModifier, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
        FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, ObjectNamePart, OrderBy, OrderByKind, Query,
        Select, SelectItem, Set, SetExpr, Statement, TableFactor, TableWithJoins, TimezoneInfo, Value, ValueWithSpan,
        Visit, VisitMut, Visitor, VisitorMut, With,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};
use datafusion_postgres::pgwire::api::Type;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    mem,
    ops::ControlFlow,
};

/// What those questions about the catalog have in them that the library knows by their words.
const KNOWN_BY_WORDS: [&str; 3] = ["pg_publication", "pg_policy ", "pg_statistic_ext"];
/// And one about the path.
const PATH_BY_WORDS: &str = "string_to_array(current_setting(";
/// Tables of the catalog that the library does not look for there by itself.
const OF_THE_CATALOG: [&str; 6] =
    ["pg_available_extensions", "pg_policies", "pg_sequences", "pg_stat_activity", "pg_user", "pg_user_mappings"];
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
/// The name of our function that multiplies an interval.
pub(super) const INTERVAL_TIMES: &str = "interval_times";
/// And of the one that puts a template into words of `strftime`.
pub(super) const STRFTIME_OF: &str = "strftime_of";
/// Functions that take a template.
const BY_TEMPLATE: [&str; 3] = ["to_char", "to_date", "to_timestamp"];
/// Words of a template of `to_char` and those of `strftime` for them, longer ones before what they begin with; none where there is
/// none.
const TEMPLATES: [(&str, Option<&str>); 22] = [
    ("YYYY", Some("%Y")),
    ("IYYY", Some("%G")),
    ("YY", Some("%y")),
    ("FMMonth", Some("%B")),
    ("FMDay", Some("%A")),
    ("Mon", Some("%b")),
    ("Dy", Some("%a")),
    ("MM", Some("%m")),
    ("IDDD", None),
    ("DDD", Some("%j")),
    ("DD", Some("%d")),
    ("HH24", Some("%H")),
    ("HH12", Some("%I")),
    ("HH", Some("%I")),
    ("MI", Some("%M")),
    ("SSSS", None),
    ("SS", Some("%S")),
    ("MS", Some("%3f")),
    ("US", Some("%6f")),
    ("IW", Some("%V")),
    ("AM", Some("%p")),
    ("PM", Some("%p")),
];

/// What is known besides the text.
pub(super) struct Asked<'a> {
    /// The types that the client has said its parameters have.
    pub declared: &'a [Option<Type>],
    /// The schema in which the client looks for a table that it calls without one.
    pub schema_of: &'a dyn Fn(&str) -> Option<String>,
}

/// Refuses names with a quote in them: they are printed as others, and nothing here has such a name.
fn check_names(sql: &str) -> Result<(), String> {
    if !sql.contains("\"\"") {
        return Ok(());
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(()) };
    let has_quote =
        |token: &Token| matches!(token, Token::Word(word) if word.quote_style.is_some() && word.value.contains('"'));
    match tokens.iter().any(has_quote) {
        true => Err("names with a quote in them are not understood here".to_owned()),
        false => Ok(()),
    }
}

/// The statements of a text.
///
/// # Errors
/// With what cannot be understood.
pub(super) fn one_by_one(sql: &str) -> Result<Vec<Cow<'_, str>>, String> {
    check_names(sql)?;
    Ok(match Parser::parse_sql(&PostgreSqlDialect {}, sql) {
        Ok(mut statements) if statements.len() > 1 => {
            statements.iter_mut().for_each(print_exactly);
            statements.iter().map(|statement| Cow::Owned(statement.to_string())).collect()
        }
        // What is wrong with it, the library says.
        _ => vec![Cow::Borrowed(sql)],
    })
}

/// The same question for DataFusion. What cannot be parsed, or needs no other words, stays as it is.
///
/// # Errors
/// With what there is no word for.
pub(super) fn rewrite<'a>(sql: &'a str, asked: &Asked<'_>) -> Result<Cow<'a, str>, String> {
    check_names(sql)?;
    let Ok(mut statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) else { return Ok(Cow::Borrowed(sql)) };
    let before = statements.clone();
    statements.iter_mut().for_each(print_exactly);
    statements.iter_mut().try_for_each(|statement| rewrite_statement(statement, sql, asked))?;
    if statements == before {
        return Ok(Cow::Borrowed(sql));
    }
    let texts: Vec<String> = statements.iter().map(Statement::to_string).collect();
    Ok(Cow::Owned(texts.join("; ")))
}

fn rewrite_statement(statement: &mut Statement, sql: &str, asked: &Asked<'_>) -> Result<(), String> {
    if let Statement::ShowVariable { variable } = statement
        && matches!(&variable[..], [all] if all.value.eq_ignore_ascii_case("all"))
        && let Ok(mut other) = Parser::parse_sql(&PostgreSqlDialect {}, ALL_SETTINGS)
    {
        *statement = other.remove(0);
    }
    if let Statement::Set(Set::SingleAssignment { scope, .. }) = statement
        && *scope == Some(ContextModifier::Session)
    {
        *scope = None;
    }
    let mut seen = Seen::default();
    let _ = Visit::visit(statement, &mut seen);
    if sql.contains(PATH_BY_WORDS) || seen.catalog && KNOWN_BY_WORDS.iter().any(|words| sql.contains(words)) {
        return Ok(());
    }
    let _ =
        VisitMut::visit(statement, &mut Qualifier { schema_of: asked.schema_of, own: Vec::new(), aside: Vec::new() });
    let mut rewriter = Rewriter { declared: asked.declared, in_catalog: seen.catalog, unknown: None };
    let _ = VisitMut::visit(statement, &mut rewriter);
    if let Some(unknown) = rewriter.unknown {
        return Err(unknown);
    }
    if let Statement::Query(query) = statement
        && !seen.catalog
    {
        let ordered = ordered_within(query);
        if let SetExpr::Select(select) = &mut *query.body {
            name_columns(select, &seen.names, &ordered);
        }
    }
    Ok(())
}

/// Lets texts be printed as they are: the parser's own way to print one with a quote in it changes it.
fn print_exactly(statement: &mut Statement) {
    struct Exactly;
    impl VisitorMut for Exactly {
        type Break = ();

        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
            if let Value::SingleQuotedString(text) = &mut value.value
                && text.contains('\'')
            {
                value.value = Value::EscapedStringLiteral(mem::take(text));
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(statement, &mut Exactly);
}

/// What a statement names.
#[derive(Default)]
struct Seen {
    /// Columns, in small letters.
    names: HashSet<String>,
    /// Whether it looks things up in the catalog.
    catalog: bool,
}

impl Visitor for Seen {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.names.extend(column(expression).map(|name| name.value.to_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.catalog |= is_of_the_catalog(name);
        ControlFlow::Continue(())
    }
}

/// Gives tables without a schema the one in which they are found.
struct Qualifier<'a> {
    schema_of: &'a dyn Fn(&str) -> Option<String>,
    /// Tables that the questions around this one have made for themselves, by `WITH`.
    own: Vec<HashSet<String>>,
    /// What they have after that word, while the rest of them is looked at.
    aside: Vec<Option<With>>,
}

/// As it is looked up.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

impl VisitorMut for Qualifier<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.own.push(HashSet::new());
        if let Some(with) = &mut query.with {
            for table in &mut with.cte_tables {
                let name = folded(&table.alias.name);
                let inner = |this: &mut Self, name| this.own.last_mut().map(|own| own.insert(name));
                if with.recursive {
                    inner(self, name.clone());
                }
                // Before it has its name, which is that of another table within it.
                let _ = VisitMut::visit(&mut table.query, self);
                inner(self, name);
            }
        }
        self.aside.push(query.with.take());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        query.with = self.aside.pop().flatten();
        self.own.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        let [ObjectNamePart::Identifier(table)] = &name.0[..] else { return ControlFlow::Continue(()) };
        let table = folded(table);
        if !self.own.iter().any(|own| own.contains(&table)) {
            let schema = match OF_THE_CATALOG.contains(&table.as_str()) {
                true => Some(PG_CATALOG.to_owned()),
                false => (self.schema_of)(&table),
            };
            if let Some(schema) = schema {
                name.0.insert(0, ObjectNamePart::Identifier(Ident::with_quote('"', schema)));
            }
        }
        ControlFlow::Continue(())
    }
}

/// The name of a column that is all of an expression.
fn column(expression: &Expr) -> Option<&Ident> {
    match expression {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(ObjectNamePart::as_ident)
}

/// Whether a table is one of `pg_catalog`, or is looked for there.
fn is_of_the_catalog(name: &ObjectName) -> bool {
    let names: Vec<String> = name.0.iter().filter_map(ObjectNamePart::as_ident).map(folded).collect();
    match &names[..] {
        [table] => table.starts_with("pg_"),
        [.., schema, _] => schema == PG_CATALOG,
        [] => false,
    }
}

struct Rewriter<'a> {
    declared: &'a [Option<Type>],
    in_catalog: bool,
    /// What there is no word for.
    unknown: Option<String>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

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
                Some(tables)
                    if !is_aggregated(query) && tables.iter().all(|table| NEVER_FILLED.contains(&table.as_str())) =>
                {
                    if let Some(nothing) = parsed("CAST(NULL AS TEXT)") {
                        *expression = nothing;
                    }
                }
                Some(_) => aggregate_lookup(query),
                None => {}
            },
            Expr::Function(function) => {
                let is_by_template = |name: &Ident| BY_TEMPLATE.contains(&name.value.to_lowercase().as_str());
                if last(&function.name).is_some_and(is_by_template) {
                    self.unknown = self.unknown.take().or(translate_template(function).err());
                } else if let Some(other) = other_function(function, self.in_catalog) {
                    *expression = other;
                }
            }
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                let list = match &mut **right {
                    Expr::Cast { expr, .. } | Expr::Nested(expr) => &mut **expr,
                    other => other,
                };
                if let Some(elements) = literal(list).and_then(quoted_elements) {
                    *list = elements;
                }
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
                let is_not = if *negated { "!~" } else { "~" };
                if let Some(similar) = literal(pattern)
                    && let Some(matched) = parsed(&format!("{expr} {is_not} {}", text(&regex_of(similar))))
                {
                    *expression = matched;
                }
            }
            Expr::Value(ValueWithSpan { value: Value::UnicodeStringLiteral(letters), .. }) => {
                *expression = text(letters)
            }
            Expr::Cast { expr, data_type: DataType::Array(_), .. } => {
                if let Some(elements) = literal(expr).and_then(quoted_elements) {
                    **expr = elements;
                }
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
                if literal(pattern).is_some() =>
            {
                if let Some(found) = parsed(&format!("(regexp_match({expr}, {pattern}))[1]")) {
                    *expression = found;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Multiply, right }
                if matches!(**left, Expr::Interval(_)) || matches!(**right, Expr::Interval(_)) =>
            {
                let (interval, times) = if matches!(**left, Expr::Interval(_)) { (left, right) } else { (right, left) };
                if let Some(product) = parsed(&format!("{INTERVAL_TIMES}({interval}, {times})")) {
                    *expression = product;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Divide, right }
                if matches!(&**left, Expr::Interval(_))
                    || matches!(&**left, Expr::Function(f) if last(&f.name).is_some_and(|n| n.value == INTERVAL_TIMES)) =>
            {
                if let Some(part) = parsed(&format!("{INTERVAL_TIMES}({left}, 1.0 / ({right}))")) {
                    *expression = part;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } if self.in_catalog => {
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
                let declared = at.and_then(|at| self.declared.get(at.checked_sub(1)?)?.as_ref());
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
    Expr::value(match value.contains('\'') {
        true => Value::EscapedStringLiteral(value.to_owned()),
        false => Value::SingleQuotedString(value.to_owned()),
    })
}

fn literal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text),
            ..
        }) => Some(text),
        _ => None,
    }
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

fn is_aggregated(query: &Query) -> bool {
    let SetExpr::Select(select) = &*query.body else { return false };
    select.projection.iter().any(|item| {
        let words = item.to_string().to_lowercase();
        AGGREGATES.iter().any(|name| words.contains(name))
    })
}

/// Such a look gives one row; DataFusion wants it aggregated to believe that.
fn aggregate_lookup(query: &mut Query) {
    let is_one_of_many = is_aggregated(query);
    let SetExpr::Select(select) = &mut *query.body else { return };
    if let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] =
        &mut select.projection[..]
        && !is_one_of_many
        && !matches!(column, Expr::Value(_))
        && let Some(aggregated) = parsed(&format!("max({column})"))
    {
        *column = aggregated;
    }
}

/// Compares what is true or not of an index or a column with `'t'`.
fn truth_is_no_text(left: &Expr, right: &mut Expr) {
    let is_truth =
        column(left).is_some_and(|name| ["indis", "attis", "attnot"].iter().any(|of| name.value.starts_with(of)));
    if is_truth && literal(right).is_some() {
        *right = cast(right.clone(), DataType::Boolean);
    }
}

/// The values of a question of one column about the catalog, as a list.
fn listed(query: &Query) -> Option<Expr> {
    let mut query = query.clone();
    let order = query.order_by.take();
    let limited = query.limit_clause.is_some() || query.fetch.is_some();
    let SetExpr::Select(select) = &mut *query.body else { return None };
    if select.from.iter().any(|from| matches!(from.relation, TableFactor::Table { args: Some(_), .. })) {
        // The options of a table, or who may do what with it: the catalog has none.
        return parsed("arrow_cast(NULL, 'List(Utf8)')");
    }
    let is_plain =
        matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty()) && select.distinct.is_none();
    let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] = &mut select.projection[..]
    else {
        return None;
    };
    if limited || !is_plain {
        return None;
    }
    let ordered = match order {
        None => format!("array_agg({column})"),
        Some(order) if order.to_string().eq_ignore_ascii_case("order by 1") => {
            format!("array_agg({column} ORDER BY {column})")
        }
        Some(order) => format!("array_agg({column} {order})"),
    };
    *column = parsed(&ordered)?;
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
    if name == "json_build_object" && in_catalog {
        return parsed("CAST(NULL AS TEXT)");
    }
    None
}

/// Puts the template of such a call into words of `strftime`.
fn translate_template(function: &mut Function) -> Result<(), String> {
    if let FunctionArguments::List(list) = &mut function.args
        && let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(template))] = &mut list.args[..]
    {
        match literal(template) {
            Some(words) => *template = text(&strftime(words)?),
            // Known when the question is asked.
            None => {
                if let Some(later) = parsed(&format!("{STRFTIME_OF}(CAST({template} AS TEXT))")) {
                    *template = later;
                }
            }
        }
    }
    Ok(())
}

/// A template as `strftime` has it; one that has a `%` is one of those.
///
/// # Errors
/// With the word that there is not.
pub(super) fn strftime(template: &str) -> Result<String, String> {
    let unknown = |word: &str| {
        format!("template of a time: there is no '{word}' here; a template of strftime, such as '%Y-%m', may have it")
    };
    if template.contains('%') {
        return Ok(template.to_owned());
    }
    let (mut out, mut rest) = (String::new(), template);
    while let Some(letter) = rest.chars().next() {
        if let Some((quoted, after)) = rest.strip_prefix('"').and_then(|text| text.split_once('"')) {
            out.push_str(quoted);
            rest = after;
            continue;
        }
        // Words that are numbers may be in small letters; names would be, too.
        let is = |word: &str| match word.chars().any(char::is_lowercase) || word.ends_with('M') && word != "MM" {
            true => rest.starts_with(word),
            false => rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)),
        };
        match TEMPLATES.iter().find(|(word, _)| is(word)) {
            Some((word, Some(format))) => {
                out.push_str(format);
                rest = &rest[word.len()..];
            }
            Some((word, None)) => return Err(unknown(word)),
            None if letter.is_alphanumeric() => return Err(unknown(rest)),
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    Ok(out)
}

/// The elements of the text of an array, when it has quotes in it, which the library takes for a part of them.
fn quoted_elements(list: &str) -> Option<Expr> {
    let inner = list.strip_prefix('{')?.strip_suffix('}')?;
    if !inner.contains(['"', '\\', '\'']) {
        return None;
    }
    let (mut elements, mut element, mut is_quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut take = |element: &mut String, was_quoted: bool| {
        let element = mem::take(element);
        match !was_quoted && element.eq_ignore_ascii_case("null") {
            true => elements.push(Expr::value(Value::Null)),
            false if was_quoted => elements.push(text(&element)),
            false => elements.push(text(element.trim_end())),
        }
    };
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (is_quoted, was_quoted) = (!is_quoted, true),
            '\\' => element.extend(letters.next()),
            // Blanks between elements are of none.
            letter if !is_quoted && letter.is_whitespace() && (was_quoted || element.is_empty()) => {}
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
    let (mut out, mut is_class, mut rest) = ("(?s)^(?:".to_owned(), false, similar.chars());
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => out.extend(['\\'].into_iter().chain(rest.next())),
            '[' | ']' => {
                is_class = letter == '[';
                out.push(letter);
            }
            letter if is_class => out.push(letter),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '^' | '$' => out.extend(['\\', letter]),
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

/// A pattern whose escape is this one, with the backslash for it.
fn escaped_by_backslash(pattern: &Expr, escape: &str) -> Expr {
    let plain = format!(r"replace({pattern}, '\', '\\')");
    let sql = match escape {
        "" => plain,
        escape => {
            let (one, two) = (text(escape), text(&escape.repeat(2)));
            // Twice it means itself.
            format!(r"replace(replace(replace({plain}, {two}, chr(1)), {one}, '\'), chr(1), {one})")
        }
    };
    parsed(&sql).unwrap_or_else(|| pattern.clone())
}

/// How PostgreSQL calls a column.
fn natural_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => column(expression).map(folded),
        Expr::Function(function) => last(&function.name).map(|name| name.value.to_lowercase()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => natural_name(expr),
        Expr::AtTimeZone { .. } => Some("timezone".to_owned()),
        Expr::Case { .. } => Some("case".to_owned()),
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        _ => None,
    }
}

fn name_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expression) => Some(natural_name(expression).unwrap_or_else(|| NAMELESS.to_owned())),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    }
}

/// Names columns that DataFusion would call alike, which it refuses.
fn name_twins(select: &mut Select) {
    // As it calls them: a cast has no name of its own.
    fn key(expression: &Expr) -> String {
        match expression {
            Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::AtTimeZone { timestamp: expr, .. } => key(expr),
            other => other.to_string(),
        }
    }
    let taken: HashSet<String> = select.projection.iter().filter_map(name_of).collect();
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
            let free = (*times..).map(|at| format!("{name}_{at}")).find(|name| !taken.contains(name));
            let alias = Ident::with_quote('"', free.unwrap_or(name));
            *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
        }
    }
}

/// The columns by which an answer is ordered that are part of more: there they are those of the table.
fn ordered_within(query: &Query) -> HashSet<String> {
    let mut seen = Seen::default();
    if let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &query.order_by {
        for key in keys.iter().filter(|key| !matches!(key.expr, Expr::Identifier(_))) {
            let _ = Visit::visit(&key.expr, &mut seen);
        }
    }
    seen.names
}

/// Gives the columns of an answer the names that they have in PostgreSQL, where those are single.
fn name_columns(select: &mut Select, names: &HashSet<String>, ordered: &HashSet<String>) {
    let mut times: HashMap<String, usize> = HashMap::new();
    for name in select.projection.iter().filter_map(name_of) {
        *times.entry(name).or_default() += 1;
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expression) = item else { continue };
        if column(expression).is_some() {
            continue;
        }
        let is_cast_column = matches!(expression, Expr::Cast { expr, .. } if column(expr).is_some());
        let name = natural_name(expression).unwrap_or_else(|| NAMELESS.to_owned());
        let is_cast_column = is_cast_column && !ordered.contains(&name);
        // Not one that means something else in the question.
        if times[&name] == 1 && (is_cast_column || !names.contains(&name)) {
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
        rewrite(sql, &Asked { declared, schema_of: &in_gold }).unwrap().into_owned()
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
                r"SELECT a FROM t WHERE a LIKE replace(replace(replace(replace('x/_%', '\', '\\'), '//', chr(1)), '/', '\'), chr(1), '/')",
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
            ("SELECT to_char(t, 'Dy DD Mon') AS t FROM x", "SELECT to_char(t, '%a %d %b') AS t FROM x"),
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
                "SELECT (SELECT array_agg(a ORDER BY a) FROM pg_t) AS l, get_field((x.k), 'n') AS n, (regexp_match(b, '[0-9]+'))[1] AS d FROM x",
            ),
            (
                "SELECT a FROM t LIMIT $1 OFFSET $2",
                "SELECT a FROM t LIMIT CAST($1 AS BIGINT) OFFSET CAST($2 AS BIGINT)",
            ),
            (
                "SELECT i.indkey FROM pg_index i WHERE i.indisprimary = 't'",
                "SELECT i.indkey FROM pg_index i WHERE i.indisprimary = CAST('t' AS BOOLEAN)",
            ),
            (
                r"SELECT (SELECT s.seqstart FROM pg_sequence s WHERE s.oid = t.oid) AS s, U&'caf\00E9' AS u FROM pg_type t",
                "SELECT CAST(NULL AS TEXT) AS s, 'café' AS u FROM pg_type t",
            ),
            (
                "SELECT (SELECT count(*) FROM pg_attrdef d WHERE d.oid = t.oid) AS s FROM pg_type t",
                "SELECT (SELECT count(*) FROM pg_attrdef d WHERE d.oid = t.oid) AS s FROM pg_type t",
            ),
            ("SELECT timezone('UTC', t) AS t FROM x", "SELECT ((t) AT TIME ZONE 'UTC') AS t FROM x"),
            ("SELECT a FROM t WHERE a SIMILAR TO '%(b|d).'", r"SELECT a FROM t WHERE a ~ '(?s)^(?:.*(b|d)\.)$'"),
            ("SELECT a FROM t WHERE a NOT SIMILAR TO '[^0-9_]%'", "SELECT a FROM t WHERE a !~ '(?s)^(?:[^0-9_].*)$'"),
            (
                "SELECT interval '5 minutes' * a AS i, interval '1 day' / 2 AS h FROM t",
                "SELECT interval_times(INTERVAL '5 minutes', a) AS i, interval_times(INTERVAL '1 day', 1.0 / (2)) AS h FROM t",
            ),
            (
                "SELECT a FROM t WHERE t > to_date('2024-01-31', 'YYYY-MM-DD')",
                "SELECT a FROM t WHERE t > to_date('2024-01-31', '%Y-%m-%d')",
            ),
            (
                "SELECT to_char(t, $1) AS t, a::DATE FROM x ORDER BY extract(HOUR FROM a)",
                "SELECT to_char(t, strftime_of(CAST($1 AS TEXT))) AS t, a::DATE FROM x ORDER BY EXTRACT(HOUR FROM a)",
            ),
            ("SELECT a FROM t WHERE a = ANY('{it''s, b }')", r"SELECT a FROM t WHERE a = ANY(ARRAY[E'it\'s', 'b'])"),
            (
                r#"SELECT a FROM t WHERE a = ANY('{"1","2"}'::INT[])"#,
                "SELECT a FROM t WHERE a = ANY(ARRAY['1', '2']::INT[])",
            ),
            // A text that only looks like one of those questions.
            (
                "SELECT to_char(t, 'YYYY') AS t FROM x WHERE a = 'pg_publication'",
                "SELECT to_char(t, '%Y') AS t FROM x WHERE a = 'pg_publication'",
            ),
            ("SELECT usename FROM pg_user", r#"SELECT usename FROM "pg_catalog".pg_user"#),
            ("SELECT r FROM kpi_rfm", r#"SELECT r FROM "gold".kpi_rfm"#),
            (
                "WITH kpi_rfm AS (SELECT r FROM kpi_rfm) SELECT r FROM KPI_RFM",
                r#"WITH kpi_rfm AS (SELECT r FROM "gold".kpi_rfm) SELECT r FROM KPI_RFM"#,
            ),
            (
                "SELECT (WITH kpi_rfm AS (SELECT 1 AS r) SELECT r FROM kpi_rfm) AS a, b FROM Kpi_Rfm",
                r#"SELECT (WITH kpi_rfm AS (SELECT 1 AS r) SELECT r FROM kpi_rfm) AS a, b FROM "gold".Kpi_Rfm"#,
            ),
            (
                "WITH RECURSIVE kpi_rfm AS (SELECT 1 AS r UNION ALL SELECT r + 1 FROM kpi_rfm) SELECT r FROM kpi_rfm",
                "WITH RECURSIVE kpi_rfm AS (SELECT 1 AS r UNION ALL SELECT r + 1 FROM kpi_rfm) SELECT r FROM kpi_rfm",
            ),
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
            (
                "SELECT g, count(*) FROM t GROUP BY g, count HAVING count > 5",
                "SELECT g, count(*) FROM t GROUP BY g, count HAVING count > 5",
            ),
            ("SELECT a, a, a_2 FROM t", r#"SELECT a, a AS "a_3", a_2 FROM t"#),
            (
                "SELECT a::INT, sum(b)::INT, CASE WHEN c THEN 1 END, 2 * d FROM t",
                r#"SELECT a::INT AS "a", sum(b)::INT AS "sum", CASE WHEN c THEN 1 END AS "case", 2 * d AS "?column?" FROM t"#,
            ),
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
    fn texts_are_printed_as_they_are() {
        for text in [r"\' OR 1=1 --", "a''b", "it's", r"\\'", "'"] {
            let quoted = text.replace('\'', "''");
            let sql = rewritten(&format!("SELECT count(*) FROM t WHERE a = '{quoted}'"), &[]);
            let statements = Parser::parse_sql(&PostgreSqlDialect {}, &sql).unwrap();
            let Statement::Query(query) = &statements[0] else { panic!("{sql}") };
            let SetExpr::Select(select) = &*query.body else { panic!("{sql}") };
            let Some(Expr::BinaryOp { right, .. }) = &select.selection else { panic!("{sql}") };
            assert_eq!(literal(right), Some(text), "{sql}");
        }
    }

    #[test]
    fn names_with_quotes_are_refused_and_deep_questions_are_no_work() {
        let asked = Asked { declared: &[], schema_of: &in_gold };
        for sql in [r#"SELECT count(*) AS "a\"" FROM x --" FROM t"#, r#"SELECT 1 AS "a""""b""#] {
            assert!(rewrite(sql, &asked).is_err() && one_by_one(sql).is_err(), "{sql}");
        }
        assert!(rewrite(r#"SELECT '""' AS a"#, &asked).is_ok());
        let deep =
            (0..40).fold("SELECT r FROM kpi_rfm".to_owned(), |inner, _| format!("WITH a AS ({inner}) SELECT r FROM a"));
        let wanted = deep.replace("FROM kpi_rfm", r#"FROM "gold".kpi_rfm"#);
        assert_eq!(rewritten(&deep, &[]), wanted);
    }

    #[test]
    fn what_there_is_no_word_for_is_said() {
        for template in ["Month", "Q", "SSSS", "IDDD", "YYYY-Day", "am"] {
            let sql = format!("SELECT to_char(t, '{template}') AS t FROM x");
            let told = rewrite(&sql, &Asked { declared: &[], schema_of: &in_gold }).unwrap_err();
            assert!(told.contains("strftime"), "{template}: {told}");
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
