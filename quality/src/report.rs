//! What the results of many checks say together.

use crate::{Figure, Kind, QualityResult, Severity};
use std::collections::BTreeMap;

const MILLIS_AN_HOUR: i64 = 3_600_000;

/// All expectations, as they were checked last and hour by hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QualityReport {
    /// When anything was checked last: milliseconds since 1970.
    pub as_of: Option<i64>,
    /// By table and name.
    pub expectations: Vec<ExpectationReport>,
}

/// One expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectationReport {
    /// The table whose rows were looked at.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub kind: Kind,
    /// What follows when it is not met.
    pub severity: Severity,
    /// It in a few words, or its SQL.
    pub rule: String,
    /// The least share, of kinds that are one.
    pub at_least: Option<f64>,
    /// When it was checked last: milliseconds since 1970.
    pub checked_at: i64,
    /// The last check of each partition or file, together; of those that were checked within an hour of the last.
    pub latest: Figure,
    /// Hours in which it was checked, oldest first.
    pub history: Vec<HourReport>,
}

/// One hour of checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HourReport {
    /// Its start: milliseconds since 1970.
    pub start: i64,
    /// All of its checks together; the age is that of the worst.
    pub figure: Figure,
    /// Checks: of all partitions of a process at one commit, or of a file.
    pub checks: u64,
    /// Those at which the expectation was not met.
    pub failed: u64,
}

impl QualityReport {
    /// The expectations of this severity that are not met.
    pub fn failed(&self, severity: Severity) -> impl Iterator<Item = &ExpectationReport> {
        self.expectations.iter().filter(move |e| e.severity == severity && e.latest.ok == Some(false))
    }
}

/// Puts a report together from results in any order.
#[derive(Debug, Default)]
pub struct ReportBuilder {
    expectations: BTreeMap<(String, String), Building>,
}

#[derive(Debug)]
struct Building {
    /// Says how the expectation reads today.
    newest: QualityResult,
    /// By partition and file.
    latest: BTreeMap<(Option<i32>, Option<String>), QualityResult>,
    /// By moment.
    checks: BTreeMap<i64, Figure>,
}

impl ReportBuilder {
    /// Adds one result.
    pub fn add(&mut self, result: QualityResult) {
        let key = (result.table.clone(), result.expectation.clone());
        let building = self.expectations.entry(key).or_insert_with(|| Building {
            newest: result.clone(),
            latest: BTreeMap::new(),
            checks: BTreeMap::new(),
        });
        let check = building.checks.entry(result.checked_at).or_default();
        *check = Figure::of_all(result.kind, result.at_least, [*check, result.figure]);
        if result.checked_at > building.newest.checked_at {
            building.newest = result.clone();
        }
        let place = (result.partition, result.file.clone());
        match building.latest.get_mut(&place) {
            Some(known) if known.checked_at > result.checked_at => {}
            Some(known) => *known = result,
            None => drop(building.latest.insert(place, result)),
        }
    }

    /// The report over all that was added.
    pub fn finish(self) -> QualityReport {
        let as_of = self.expectations.values().map(|building| building.newest.checked_at).max();
        let expectations = self.expectations.into_values().map(Building::finish).collect();
        QualityReport { as_of, expectations }
    }
}

impl Building {
    fn finish(self) -> ExpectationReport {
        let newest = self.newest;
        let is_of_now = |r: &&QualityResult| {
            // Older: a partition that is another's now, or an expectation that read otherwise.
            newest.checked_at - r.checked_at <= MILLIS_AN_HOUR && r.rule == newest.rule
        };
        let latest = self.latest.values().filter(is_of_now).map(|result| result.figure);
        ExpectationReport {
            latest: Figure::of_all(newest.kind, newest.at_least, latest),
            history: history(newest.kind, newest.at_least, self.checks),
            table: newest.table,
            name: newest.expectation,
            kind: newest.kind,
            severity: newest.severity,
            rule: newest.rule,
            at_least: newest.at_least,
            checked_at: newest.checked_at,
        }
    }
}

fn history(kind: Kind, at_least: Option<f64>, checks: BTreeMap<i64, Figure>) -> Vec<HourReport> {
    let mut hours: Vec<HourReport> = Vec::new();
    for (at, check) in checks {
        let start = at.div_euclid(MILLIS_AN_HOUR) * MILLIS_AN_HOUR;
        if hours.last().is_none_or(|hour| hour.start != start) {
            hours.push(HourReport { start, figure: Figure::default(), checks: 0, failed: 0 });
        }
        let Some(hour) = hours.last_mut() else { continue };
        hour.checks += 1;
        hour.failed += u64::from(check.ok == Some(false));
        let worst = hour.figure.age_seconds.into_iter().chain(check.age_seconds).reduce(f64::max);
        hour.figure = Figure { age_seconds: worst, ..Figure::of_all(kind, at_least, [hour.figure, check]) };
        if !kind.is_share() && hour.failed > 0 {
            hour.figure.ok = Some(false);
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(minute: i64, partition: i32, kind: Kind, figure: Figure) -> QualityResult {
        QualityResult {
            checked_at: minute * 60_000,
            table: "silver.events".to_owned(),
            expectation: kind.as_str().to_owned(),
            kind,
            severity: Severity::Soft,
            rule: String::new(),
            at_least: kind.is_share().then_some(0.9),
            partition: Some(partition),
            offsets: None,
            file: None,
            figure,
            event_times: None,
        }
    }

    fn share(minute: i64, partition: i32, passed: u64, rows: u64) -> QualityResult {
        let ok = Some(passed as f64 >= 0.9 * rows as f64);
        let figure = Figure { rows, passed: Some(passed), ok, ..Figure::default() };
        result(minute, partition, Kind::Completeness, figure)
    }

    #[test]
    fn the_last_check_of_each_partition_counts_and_hours_add_up() {
        let mut builder = ReportBuilder::default();
        // Partition 7 went to nobody long ago, and does not count.
        for r in [share(0, 7, 0, 100), share(119, 0, 0, 50), share(121, 0, 5, 10), share(120, 1, 90, 90)] {
            builder.add(r);
        }
        let report = builder.finish();
        let [only] = &report.expectations[..] else { panic!("{report:?}") };
        assert_eq!(report.as_of, Some(121 * 60_000));
        assert_eq!((only.latest.rows, only.latest.passed, only.latest.ok), (100, Some(95), Some(true)));
        let hours: Vec<_> = only.history.iter().map(|h| (h.figure.passed, h.checks, h.failed, h.figure.ok)).collect();
        assert_eq!(hours, [(Some(0), 1, 1, Some(false)), (Some(0), 1, 1, Some(false)), (Some(95), 2, 1, Some(true))]);
        assert_eq!(report.failed(Severity::Soft).count(), 0);
    }

    #[test]
    fn the_newest_row_speaks_for_the_freshness_of_all_and_every_volume_must_be_right() {
        let mut builder = ReportBuilder::default();
        for (partition, age) in [(0, 1000.0), (1, 2.0)] {
            let ok = Some(age < 300.0);
            builder.add(result(
                1,
                partition,
                Kind::Freshness,
                Figure { rows: 1, age_seconds: Some(age), ok, passed: None },
            ));
            builder.add(result(1, partition, Kind::Volume, Figure { rows: 1, ok, ..Figure::default() }));
        }
        let report = builder.finish();
        let [freshness, volume] = &report.expectations[..] else { panic!("{report:?}") };
        assert_eq!((freshness.latest.age_seconds, freshness.latest.ok), (Some(2.0), Some(true)));
        assert_eq!((volume.latest.rows, volume.latest.ok), (2, Some(false)));
        // One check of two partitions.
        let told = |e: &ExpectationReport| (e.history[0].checks, e.history[0].failed, e.history[0].figure.ok);
        assert_eq!((told(freshness), told(volume)), ((1, 0, Some(true)), (1, 1, Some(false))));
    }
}
