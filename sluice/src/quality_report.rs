//! What the checks of quality found, from the lake: for the API, for the page, and for `sluice quality`.

use crate::Config;
use anyhow::{Context, Result};
use datafusion::execution::context::SessionContext;
use futures::StreamExt;
use serde_json::json;
use sluice_quality::{Kind, QualityReport, QualityResult, ReportBuilder, Severity};
use sluice_serve::{QualitySource, quality_page};
use sluice_sinks::lake::{Bucket, DeltaTable, Lake, register};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// All pages share one answer for that long: the table grows at every commit, which is rarer.
const SHARED_FOR: Duration = Duration::from_secs(5);
const HOURS: usize = 24;

/// Reads `silver.quality`. Blocks: not for threads of the runtime.
pub(crate) struct LakeQuality {
    lake: Lake,
    runtime: tokio::runtime::Handle,
    /// The expectations of the stream's tables that are on.
    expected: Vec<String>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    table: Option<DeltaTable>,
    /// When, over how many hours, and what.
    answer: Option<(Instant, usize, Arc<QualityReport>)>,
}

impl LakeQuality {
    pub fn new(config: &Config, runtime: tokio::runtime::Handle) -> Self {
        let is_on = |(name, e): (&String, &sluice_quality::ExpectationConfig)| {
            (e.severity != Severity::Off).then(|| name.clone())
        };
        Self {
            lake: Lake::new(config.lake.clone(), runtime.clone()),
            runtime,
            expected: config.quality.expectations.iter().filter_map(is_on).collect(),
            read: Mutex::default(),
        }
    }

    pub fn report(&self, hours: usize) -> Result<Arc<QualityReport>> {
        // Held while reading: of many pages that ask at once, one reads and the others get its answer.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, of, report)) = &read.answer
            && at.elapsed() < SHARED_FOR
            && *of == hours
        {
            return Ok(report.clone());
        }
        if read.table.is_none() {
            read.table = self.lake.find(Bucket::Silver, "quality").context("look for silver.quality")?;
        }
        let report = match &mut read.table {
            None => QualityReport::default(),
            Some(table) => self.runtime.block_on(async {
                table.update_state().await.context("refresh silver.quality")?;
                self.over(table, hours).await.context("read silver.quality")
            })?,
        };
        let report = Arc::new(report);
        read.answer = Some((Instant::now(), hours, report.clone()));
        Ok(report)
    }

    async fn over(&self, table: &DeltaTable, hours: usize) -> Result<QualityReport> {
        let context = SessionContext::new();
        register(&context, "quality", table).await?;
        let newest = "SELECT max(checked_at) FROM quality";
        // Files come seldom: the last one speaks until the next.
        let sql = format!(
            "SELECT * FROM quality WHERE _file IS NOT NULL OR checked_at >= ({newest}) - INTERVAL '{hours} hours'"
        );
        let mut rows = context.sql(&sql).await?.execute_stream().await?;
        let mut report = ReportBuilder::default();
        while let Some(batch) = rows.next().await {
            for result in QualityResult::read(&batch?)? {
                // Of the stream, what is expected no longer is not of interest; files are checked by who loads them.
                if result.partition.is_none() || self.expected.contains(&result.expectation) {
                    report.add(result);
                }
            }
        }
        Ok(report.finish())
    }
}

impl QualitySource for LakeQuality {
    fn quality(&self, hours: usize) -> Result<Arc<QualityReport>, String> {
        self.report(hours).map_err(|error| crate::causes(&error))
    }
}

/// `sluice quality`. Says whether all is well: no hard expectation is broken, and with `strict` no other either.
pub(crate) fn run(config: &Config, html: Option<&Path>, json: bool, strict: bool) -> Result<bool> {
    let runtime = crate::roles::runtime()?;
    let report = LakeQuality::new(config, runtime.handle().clone()).report(HOURS)?;
    if let Some(file) = html {
        std::fs::write(file, quality_page(&report, HOURS)).with_context(|| format!("write {}", file.display()))?;
        eprintln!("wrote {}", file.display());
    }
    match json {
        true => println!("{}", serde_json::to_string_pretty(&as_json(&report))?),
        false => print(&report, config),
    }
    let failed = |severity| report.failed(severity).next().is_some();
    let is_bad = failed(Severity::Hard) || (strict && failed(Severity::Soft));
    Ok(!is_bad)
}

fn as_json(report: &QualityReport) -> serde_json::Value {
    let expectations: Vec<_> = report
        .expectations
        .iter()
        .map(|e| {
            json!({
                "name": e.name, "table": e.table, "kind": e.kind.as_str(), "severity": e.severity.as_str(), "rule": e.rule,
                "at_least": e.at_least, "checked_at_ms": e.checked_at, "rows": e.latest.rows, "passed": e.latest.passed,
                "ratio": e.latest.ratio(), "age_seconds": e.latest.age_seconds, "ok": e.latest.ok,
            })
        })
        .collect();
    json!({ "as_of_ms": report.as_of, "expectations": expectations })
}

fn print(report: &QualityReport, config: &Config) {
    if report.expectations.is_empty() {
        println!("nothing has been checked yet in {}", config.dir.display());
        return;
    }
    println!("{:<9} {:<5} {:<32} {:<14} {:<13} {:>12} {:>12}", "", "", "EXPECTATION", "TABLE", "KIND", "FOUND", "ROWS");
    for e in &report.expectations {
        let verdict = match e.latest.ok {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "-",
        };
        let found = match (e.kind, e.latest.ratio(), e.latest.age_seconds) {
            (Kind::Freshness, _, Some(age)) => format!("{age:.1} s"),
            (kind, Some(ratio), _) if kind.is_share() => format!("{ratio:.5}"),
            _ => "-".to_owned(),
        };
        let (severity, kind) = (e.severity.as_str(), e.kind.as_str());
        println!(
            "{verdict:<9} {severity:<5} {:<32} {:<14} {kind:<13} {found:>12} {:>12}",
            e.name, e.table, e.latest.rows
        );
    }
}
