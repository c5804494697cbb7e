//! From `detect:` lines to what a detector is told: which columns of a model's panes are shown to it, and as what.

use super::spec::{DetectSpec, MeasureText, Method};
use sluice_detectors::{DetectorConfig, Formula, Frame, Metric};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A column that may be watched, or that groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchColumn {
    /// Its name.
    pub name: String,
    /// What kind of numbers it has.
    pub kind: ColumnKind,
}

/// What kind of numbers a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// It groups.
    Group,
    /// A count: adds up over groups, and nothing seen is 0.
    Count,
    /// An amount that adds up over groups, such as money.
    Amount,
    /// Anything else, such as an average or a percentile.
    Level,
}

/// Why a `detect:` line does not fit its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchError(pub String);

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one detector watches: the lines of a model that have the same method and the same choice of series.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchPlan {
    /// How.
    pub method: Method,
    /// The group columns, in the order of the detector's.
    pub group_columns: Vec<String>,
    /// What it is told.
    pub config: DetectorConfig,
    /// The line of each metric.
    pub specs: Vec<DetectSpec>,
    /// The value column that says what a deviation is worth.
    pub money: Option<usize>,
    /// Of each value column, the columns of the panes that are added up in it.
    values: Vec<Vec<String>>,
    only: Vec<(usize, String)>,
}

impl WatchPlan {
    /// The plans of a model's lines.
    ///
    /// # Errors
    /// When a line names a column that is not there, or watches one in a way that does not fit it.
    pub fn of(
        specs: &[DetectSpec],
        columns: &[WatchColumn],
        slide_millis: i64,
        series_max: usize,
    ) -> Result<Vec<Self>, WatchError> {
        let mut plans: Vec<Self> = Vec::new();
        for spec in specs {
            let formula = formula_kind(spec, columns)?;
            for column in spec.only.keys() {
                group_column(columns, column)?;
            }
            if let Some(money) = &spec.money {
                measure_column(columns, money)?;
            }
            let fits = |plan: &Self| {
                let first = &plan.specs[0];
                plan.method == spec.method && first.only == spec.only && first.rolls_up == spec.rolls_up
            };
            let at = match plans.iter().position(fits) {
                Some(at) => at,
                None => {
                    plans.push(Self::empty(spec, columns, slide_millis, series_max));
                    plans.len() - 1
                }
            };
            plans[at].add(spec, formula);
        }
        Ok(plans)
    }

    fn empty(spec: &DetectSpec, columns: &[WatchColumn], slide_millis: i64, series_max: usize) -> Self {
        let groups = columns.iter().filter(|c| c.kind == ColumnKind::Group);
        let group_columns: Vec<String> = groups.map(|c| c.name.clone()).collect();
        let at = |column: &String| group_columns.iter().position(|c| c == column);
        let only = spec.only.iter().filter_map(|(column, value)| Some((at(column)?, value.clone()))).collect();
        let config = DetectorConfig {
            group_columns: group_columns.len(),
            value_columns: 0,
            slide_millis,
            metrics: Vec::new(),
            rolls_up: spec.rolls_up,
            series_max,
        };
        Self { method: spec.method, group_columns, config, specs: Vec::new(), money: None, values: Vec::new(), only }
    }

    fn add(&mut self, spec: &DetectSpec, kind: FormulaKind) {
        let numerator = self.value(&spec.measure.numerator);
        let formula = match kind {
            FormulaKind::Sum => Formula::Sum(numerator),
            FormulaKind::Level => Formula::Level(numerator),
            FormulaKind::Ratio => Formula::Ratio { numerator, denominator: self.value(&spec.measure.denominator) },
            FormulaKind::Mean => Formula::Mean { amount: numerator, count: self.value(&spec.measure.denominator) },
        };
        if let Some(money) = &spec.money {
            self.money = Some(self.value(std::slice::from_ref(money)));
        }
        self.config.metrics.push(Metric {
            name: spec.name.clone(),
            formula,
            direction: spec.direction,
            threshold: spec.threshold,
        });
        self.specs.push(spec.clone());
    }

    fn value(&mut self, columns: &[String]) -> usize {
        if let Some(known) = self.values.iter().position(|v| v == columns) {
            return known;
        }
        self.values.push(columns.to_vec());
        self.config.value_columns = self.values.len();
        self.values.len() - 1
    }

    /// Whether a series is one of those chosen by `group.<column>=<value>`.
    pub fn chooses(&self, group: &[Option<Arc<str>>]) -> bool {
        self.only.iter().all(|(at, value)| group[*at].as_deref() == Some(value.as_str()))
    }

    /// Fills a frame with the chosen series. `measure` gives the measure of a row by its name; none when it is null.
    pub fn fill<R>(
        &self,
        frame: &mut Frame,
        rows: impl Iterator<Item = (Vec<Option<Arc<str>>>, R)>,
        measure: impl Fn(&R, &str) -> Option<f64>,
    ) {
        let mut values = vec![0.0; self.values.len()];
        for (group, row) in rows {
            if !self.chooses(&group) {
                continue;
            }
            for (value, columns) in values.iter_mut().zip(&self.values) {
                *value = columns.iter().map(|column| measure(&row, column).unwrap_or(f64::NAN)).sum();
            }
            frame.push(&group, &values);
        }
    }

    /// Whether two metrics are moved by the same events, so that one anomaly shows in both. A mean is moved by its amount
    /// only: more orders leave their mean as it is.
    pub fn are_related(&self, one: usize, other: usize) -> bool {
        let moved = |metric: usize| match self.config.metrics[metric].formula {
            Formula::Mean { amount, .. } => [amount, amount],
            formula => formula.columns(),
        };
        let columns = |metric| moved(metric).into_iter().flat_map(|v| &self.values[v]).collect::<Vec<_>>();
        let other = columns(other);
        columns(one).iter().any(|column| other.contains(column))
    }

    /// What a rate divides, in words; empty for a measure.
    pub fn formula_text(&self, metric: usize) -> String {
        let measure: &MeasureText = &self.specs[metric].measure;
        if measure.denominator.is_empty() && measure.to_string() == self.specs[metric].name {
            return String::new();
        }
        measure.to_string()
    }

    /// The group columns of a node that it does not add up, with their values.
    pub fn group_of(&self, members: &[sluice_detectors::Member]) -> BTreeMap<String, Option<String>> {
        let columns = self.group_columns.iter().zip(members);
        let named = columns.filter_map(|(name, member)| match member {
            sluice_detectors::Member::All => None,
            sluice_detectors::Member::Value(value) => Some((name.clone(), value.as_deref().map(str::to_owned))),
        });
        named.collect()
    }
}

#[derive(Clone, Copy)]
enum FormulaKind {
    Sum,
    Ratio,
    Mean,
    Level,
}

fn formula_kind(spec: &DetectSpec, columns: &[WatchColumn]) -> Result<FormulaKind, WatchError> {
    let kinds = |names: &[String]| -> Result<Vec<ColumnKind>, WatchError> {
        names.iter().map(|name| measure_column(columns, name)).collect()
    };
    let adds_up = |kinds: &[ColumnKind]| kinds.iter().all(|k| *k != ColumnKind::Level);
    let numerator = kinds(&spec.measure.numerator)?;
    let denominator = kinds(&spec.measure.denominator)?;
    let wrong = |why: String| Err(WatchError(format!("detect: {}: {why}", spec.measure)));
    if denominator.is_empty() {
        return match adds_up(&numerator) {
            true => Ok(FormulaKind::Sum),
            false if numerator.len() > 1 => wrong("only counts and sums add up".to_owned()),
            false if spec.method == Method::Rate => wrong(
                "it is neither a count nor a sum; watch it by method=cover or zscore, or write what it divides, as \
                 measure=revenue/orders"
                    .to_owned(),
            ),
            false => Ok(FormulaKind::Level),
        };
    }
    if !adds_up(&numerator) || denominator.iter().any(|kind| *kind != ColumnKind::Count) {
        return wrong("what is divided must be counts or sums, by counts".to_owned());
    }
    Ok(match numerator.iter().all(|kind| *kind == ColumnKind::Count) {
        true => FormulaKind::Ratio,
        false => FormulaKind::Mean,
    })
}

fn measure_column(columns: &[WatchColumn], name: &str) -> Result<ColumnKind, WatchError> {
    let found = columns.iter().find(|c| c.kind != ColumnKind::Group && c.name == name);
    found.map(|c| c.kind).ok_or_else(|| {
        let measures: Vec<_> = columns.iter().filter(|c| c.kind != ColumnKind::Group).map(|c| &*c.name).collect();
        WatchError(format!("detect: '{name}' is no measure of it; measures are {}", measures.join(", ")))
    })
}

fn group_column(columns: &[WatchColumn], name: &str) -> Result<(), WatchError> {
    if columns.iter().any(|c| c.kind == ColumnKind::Group && c.name == name) {
        return Ok(());
    }
    let groups: Vec<_> = columns.iter().filter(|c| c.kind == ColumnKind::Group).map(|c| &*c.name).collect();
    Err(WatchError(format!("detect: group.{name}: it has no such group column; it has {}", groups.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<WatchColumn> {
        use ColumnKind::{Amount, Count, Group, Level};
        let kinds = [("country", Group), ("orders", Count), ("views", Count), ("revenue", Amount), ("p95", Level)];
        kinds.map(|(name, kind)| WatchColumn { name: name.to_owned(), kind }).into()
    }

    fn plans(lines: &[&str]) -> Result<Vec<WatchPlan>, WatchError> {
        let specs: Vec<DetectSpec> = lines.iter().flat_map(|line| DetectSpec::parse(line).unwrap()).collect();
        WatchPlan::of(&specs, &columns(), 60_000, 100)
    }

    #[test]
    fn lines_of_one_method_share_a_detector_and_columns() {
        let lines =
            ["measure=orders views orders/views revenue/orders", "measure=p95, method=cover", "measure=revenue"];
        let plans = plans(&lines).unwrap();
        assert_eq!(plans.len(), 2);
        let formulas: Vec<Formula> = plans[0].config.metrics.iter().map(|m| m.formula).collect();
        let (sum, ratio) = (Formula::Sum, Formula::Ratio { numerator: 0, denominator: 1 });
        assert_eq!(formulas, [sum(0), sum(1), ratio, Formula::Mean { amount: 2, count: 0 }, sum(2)]);
        assert!(plans[0].are_related(0, 2) && !plans[0].are_related(0, 3) && plans[0].are_related(3, 4));
        assert_eq!(plans[1].config.metrics[0].formula, Formula::Level(0));
        let mut frame = Frame::new(1, 3);
        let rows = [(vec![Some("FR".into())], [2.0, 8.0, 30.5])];
        plans[0].fill(&mut frame, rows.into_iter(), |row, name| {
            Some(row[["orders", "views", "revenue"].iter().position(|n| *n == name)?])
        });
        assert_eq!(frame.rows().next().unwrap().1, [2.0, 8.0, 30.5]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let wrong = |line| plans(&[line]).unwrap_err().0;
        assert!(wrong("measure=sales").contains("measures are orders, views, revenue, p95"));
        assert!(wrong("measure=p95").contains("method=cover"));
        assert!(wrong("measure=orders/revenue").contains("by counts"));
        assert!(wrong("measure=orders, group.city=X").contains("it has country"));
        assert!(wrong("measure=orders, money=gold").contains("'gold'"));
    }
}
