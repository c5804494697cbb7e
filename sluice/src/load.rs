//! `sluice load`: the batch files of a shop, `clients.csv` and `achats.csv`, into bronze and silver.
//!
//! Every step may be done again: all tables know by its hash whether they have a file. So a load that was killed is simply
//! begun anew.

use crate::{
    Config, WrongUse,
    lake_tables::{
        bronze_dead_letters, bronze_file, dead_letter_rows, silver_customers, silver_orders, silver_quality,
    },
    pipeline::{Pipeline, now_millis},
};
use anyhow::{Context, Result, bail};
use arrow::{array::AsArray, compute::cast, datatypes::DataType};
use futures::TryStreamExt;
use indicatif::ProgressBar;
use serde::Serialize;
use sluice_batch_inputs::{
    AchatsReader, Check, ClientsReader, ContentHash, IdSet, InputFile, LoadError, Loaded, Summary, Table, TableReader,
    content_hash,
};
use sluice_events::LogTime;
use sluice_quality::{Figure, QualityResult, Severity};
use sluice_sinks::{
    Metric,
    lake::{Again, Bucket, Lake, LakeTable, SourceFile, Staging, TableSpec, Upserted, read_rows},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The version that says that a file is in a table.
const WHOLE: i64 = 1;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Customers, which orders need.
    Clients,
    /// Orders.
    Achats,
}

impl Kind {
    /// By the name of the file.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let is_table = [".csv", ".csv.gz", ".txt", ".txt.gz"].iter().any(|end| name.ends_with(end));
        match (is_table, name.contains("client"), name.contains("achat")) {
            (true, true, false) => Some(Self::Clients),
            (true, false, true) => Some(Self::Achats),
            _ => None,
        }
    }

    const fn bronze(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Achats => "achats",
        }
    }

    fn silver(self) -> TableSpec {
        match self {
            Self::Clients => silver_customers(),
            Self::Achats => silver_orders(),
        }
    }

    /// What a file that silver has already still brings: orders whose customer was not known then. Customers do not come
    /// back: they may have been corrected since, or forgotten.
    const fn again(self) -> Again {
        match self {
            Self::Clients => Again::Nothing,
            Self::Achats => Again::NewKeys,
        }
    }

    /// The id of a row of silver, and what makes it another row.
    const fn columns(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Clients => ("customer_id", &["name", "email", "signup_date", "country"]),
            Self::Achats => ("order_id", &["customer_id", "order_time", "amount", "product"]),
        }
    }
}

/// Where a file comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Local(PathBuf),
    /// A place, and a file of it.
    Delivered(String, SourceFile),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Local(path) => path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Self::Delivered(_, file) => file.name.clone(),
        }
    }

    fn open(&self, lake: &Lake) -> Result<File> {
        match self {
            Self::Local(path) => File::open(path).with_context(|| format!("open {}", path.display())),
            Self::Delivered(root, file) => Ok(lake.fetch_source(root, file)?),
        }
    }
}

/// What became of a file.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub file: String,
    pub kind: Kind,
    pub records: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub dead_letters: u64,
    pub blank_lines: u64,
    /// Rows that silver did not have.
    pub added: u64,
    /// Rows that silver had otherwise.
    pub changed: u64,
    /// Bronze has the file from before.
    pub is_known: bool,
    pub warnings: Vec<String>,
    pub quality: Vec<QualityFigure>,
}

/// A share of all rows of a file.
#[derive(Debug, Serialize)]
pub(crate) struct QualityFigure {
    pub check: String,
    pub passed: u64,
    pub total: u64,
    pub ratio: Option<f64>,
}

impl From<Check> for QualityFigure {
    fn from(check: Check) -> Self {
        Self { ratio: check.ratio(), check: check.name, passed: check.passed, total: check.total }
    }
}

/// `sluice load`.
pub(crate) fn run(config: &Config, files: &[String], json: bool) -> Result<()> {
    let runtime = crate::roles::runtime()?;
    let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
    let mut sources = match files {
        [] => delivered(config, &lake)?,
        _ => named(&lake, files)?,
    };
    if sources.is_empty() {
        return Err(WrongUse(match config.sources.url.as_str() {
            "" => "name files, or set sources.url to a folder or s3://bucket".to_owned(),
            url => format!("there are no clients*.csv and achats*.csv in {url}"),
        })
        .into());
    }
    // Orders need their customers.
    sources.sort_by_key(|(kind, _)| *kind);
    let mut reports = Vec::new();
    // Shown on a terminal only.
    let progress = ProgressBar::new_spinner();
    for (kind, source) in &sources {
        let report = load(&lake, runtime.handle(), *kind, source, config.sources.at_least, |rows| {
            progress.set_message(format!("{}: {rows} rows", source.name()));
            progress.tick();
            Ok(())
        })?;
        if !json {
            progress.suspend(|| print(&report));
        }
        reports.push(report);
    }
    progress.finish_and_clear();
    if json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(())
}

/// The files of the place that the settings name.
pub(crate) fn delivered(config: &Config, lake: &Lake) -> Result<Vec<(Kind, Source)>> {
    let root = &config.sources.url;
    if root.is_empty() {
        return Ok(Vec::new());
    }
    let files = lake.source_files(root)?.into_iter();
    let known = files.filter_map(|file| Some((Kind::of(&file.name)?, Source::Delivered(root.clone(), file))));
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|(kind, _)| *kind);
    Ok(known)
}

fn named(lake: &Lake, files: &[String]) -> Result<Vec<(Kind, Source)>> {
    let one = |text: &String| -> Result<(Kind, Source)> {
        let source = match text.rsplit_once('/').filter(|_| text.starts_with("s3://")) {
            Some((root, name)) => {
                let file = lake.source_files(root)?.into_iter().find(|file| file.name == name);
                Source::Delivered(root.to_owned(), file.ok_or_else(|| WrongUse(format!("there is no object {text}")))?)
            }
            None if Path::new(text).is_file() => Source::Local(PathBuf::from(text)),
            None => return Err(WrongUse(format!("there is no file {text}")).into()),
        };
        let kind = Kind::of(&source.name()).ok_or_else(|| {
            WrongUse(format!("{text}: the name must tell what it holds: clients….csv or achats….csv, plain or .gz"))
        })?;
        Ok((kind, source))
    };
    files.iter().map(one).collect()
}

/// Looks for new files where they are delivered, and loads them. A file with which something is wrong is not tried again
/// until it is another; what fails for another reason is.
#[derive(Default)]
pub(crate) struct Deliveries {
    seen: BTreeMap<String, String>,
    /// Files that could not be loaded, and what was said of it.
    failed: BTreeMap<String, String>,
}

/// Somebody wants the process to end.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

impl Deliveries {
    /// Loads what is new since the last look.
    pub fn look(&mut self, pipeline: &Pipeline, runtime: &tokio::runtime::Handle, stop: &AtomicBool) -> Result<()> {
        let metrics = &pipeline.metrics;
        for (kind, source) in delivered(&pipeline.config, &pipeline.lake)? {
            let Source::Delivered(_, file) = &source else { continue };
            if self.seen.get(&file.name) == Some(&file.state) {
                continue;
            }
            let goes_on = |_| if stop.load(Ordering::Acquire) { Err(Stopped.into()) } else { Ok(()) };
            let at_least = pipeline.config.sources.at_least;
            match load(&pipeline.lake, runtime, kind, &source, at_least, goes_on) {
                Ok(report) => {
                    self.seen.insert(file.name.clone(), file.state.clone());
                    self.failed.remove(&file.name);
                    let Report { records, accepted, duplicates, dead_letters, added, changed, .. } = report;
                    let table = kind.silver().name;
                    for (outcome, rows) in
                        [("accepted", accepted), ("duplicate", duplicates), ("dead_letter", dead_letters)]
                    {
                        metrics.add(Metric::LoadedRows, &[&table, outcome], rows);
                    }
                    let file = &file.name;
                    tracing::info!(file, records, accepted, duplicates, dead_letters, added, changed, "loaded");
                    report.warnings.iter().for_each(|warning| tracing::warn!(file, warning, "loaded"));
                }
                Err(error) if error.is::<Stopped>() => return Ok(()),
                Err(error) => {
                    // What is wrong with the file stays wrong; anything else may be well at the next look.
                    if error.is::<LoadError>() {
                        self.seen.insert(file.name.clone(), file.state.clone());
                    }
                    let why = crate::causes(&error);
                    if self.failed.get(&file.name) != Some(&why) {
                        metrics.add(Metric::LoadFailures, &[kind.bronze()], 1);
                        tracing::error!(file = file.name, error = why, "cannot be loaded");
                        self.failed.insert(file.name.clone(), why);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Loads one file. A check that less than `at_least` of its rows pass is told as not met; `told` hears how many rows have
/// been read.
pub(crate) fn load(
    lake: &Lake,
    runtime: &tokio::runtime::Handle,
    kind: Kind,
    source: &Source,
    at_least: f64,
    told: impl FnMut(u64) -> Result<()>,
) -> Result<Report> {
    let name = source.name();
    let mut file = source.open(lake)?;
    let hash = content_hash(BufReader::new(&mut file)).with_context(|| format!("read {name}"))?;
    file.rewind().with_context(|| format!("read {name} again"))?;
    let input = InputFile { name: name.clone(), hash, now: LogTime::new(now_millis()) };
    let reader = BufReader::with_capacity(1 << 20, file);
    match kind {
        Kind::Clients => into_lake(lake, kind, hash, name, ClientsReader::new(reader, input)?, at_least, told),
        Kind::Achats => {
            let known = known_customers(lake, runtime)?;
            if known.is_empty() {
                bail!("{name}: no customers are known, and an order needs its customer: load clients.csv first");
            }
            into_lake(lake, kind, hash, name, AchatsReader::new(reader, input, Arc::new(known))?, at_least, told)
        }
    }
}

/// The ids of silver.customers.
fn known_customers(lake: &Lake, runtime: &tokio::runtime::Handle) -> Result<IdSet> {
    let mut known = IdSet::default();
    let Some(table) = lake.find(Bucket::Silver, "customers")? else { return Ok(known) };
    runtime.block_on(async {
        let mut ids = read_rows(&table).await?.select_columns(&["customer_id"])?.execute_stream().await?;
        while let Some(batch) = ids.try_next().await? {
            let texts = cast(batch.column(0), &DataType::Utf8)?;
            known.extend(texts.as_string::<i32>().iter().flatten());
        }
        Ok(known)
    })
}

/// A table that a file is appended to, unless it has the file.
struct Appended {
    table: LakeTable,
    app: String,
    is_known: bool,
}

impl Appended {
    fn open(lake: &Lake, spec: TableSpec, hash: ContentHash) -> Result<Self> {
        let app = format!("load/{hash}");
        let mut table = lake.table(spec)?;
        let is_known = table.committed(&app)?.is_some();
        Ok(Self { table, app, is_known })
    }

    fn write(&mut self, rows: &arrow::array::RecordBatch) -> Result<()> {
        if !self.is_known {
            self.table.write(rows)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if !self.is_known {
            self.table.cover(&self.app, WHOLE);
            self.table.commit()?;
        }
        Ok(())
    }
}

fn into_lake<R: Read, T: Table>(
    lake: &Lake,
    kind: Kind,
    hash: ContentHash,
    name: String,
    mut reader: TableReader<R, T>,
    at_least: f64,
    mut told: impl FnMut(u64) -> Result<()>,
) -> Result<Report> {
    let mut bronze = Appended::open(lake, bronze_file(kind.bronze()), hash)?;
    let mut letters = Appended::open(lake, bronze_dead_letters(), hash)?;
    let mut figures = Appended::open(lake, silver_quality(), hash)?;
    let spec = kind.silver();
    let mut staged = Staging::new(&spec)?;
    while let Some(Loaded { bronze: rows, silver, dead_letters, .. }) = next(&mut reader, &name)? {
        bronze.write(&rows)?;
        staged.write(&silver)?;
        if !dead_letters.is_empty() {
            letters.write(&dead_letter_rows(&dead_letters)?)?;
        }
        told(reader.summary().records)?;
    }
    // Refused rows first: when silver has what it has, nothing is missing.
    letters.commit()?;
    bronze.commit()?;
    let (key, compared) = kind.columns();
    let app = format!("load/{hash}");
    let Upserted { added, changed } = lake.upsert(spec, key, compared, staged, &app, kind.again())?;
    let checks = reader.quality();
    figures.write(&QualityResult::rows(&results(kind, &name, &checks, at_least))?)?;
    figures.commit()?;
    let quality = checks.into_iter().map(QualityFigure::from).collect();
    let Summary { records, accepted, duplicates, dead_letters, blank_lines, windows_1252, cut } =
        reader.summary().clone();
    let mut warnings = Vec::new();
    if let Some((rows, line)) = windows_1252 {
        warnings.push(format!("{rows} rows, the first in line {line}, are not UTF-8 and were read as Windows-1252"));
    }
    if let Some(why) = cut {
        warnings.push(format!("the file ends too early ({why}): what came is loaded, ask for the rest"));
    }
    let is_known = bronze.is_known;
    Ok(Report {
        file: name,
        kind,
        records,
        accepted,
        duplicates,
        dead_letters,
        blank_lines,
        added,
        changed,
        is_known,
        warnings,
        quality,
    })
}

/// The checks of a file as rows of `silver.quality`: about the file's rows as received.
fn results(kind: Kind, file: &str, checks: &[Check], at_least: f64) -> Vec<QualityResult> {
    let checked_at = now_millis();
    let one = |check: &Check| {
        let (dimension, _) = check.name.split_once('.').unwrap_or((&check.name, ""));
        QualityResult {
            checked_at,
            table: format!("bronze.{}", kind.bronze()),
            expectation: check.name.clone(),
            kind: sluice_quality::Kind::from_name(dimension).unwrap_or(sluice_quality::Kind::Validity),
            severity: Severity::Soft,
            rule: check.name.clone(),
            at_least: Some(at_least),
            partition: None,
            offsets: None,
            file: Some(file.to_owned()),
            figure: Figure {
                rows: check.total,
                passed: Some(check.passed),
                age_seconds: None,
                ok: check.ratio().map(|ratio| ratio >= at_least),
            },
            event_times: None,
        }
    };
    checks.iter().map(one).collect()
}

fn next<R: Read, T: Table>(reader: &mut TableReader<R, T>, name: &str) -> Result<Option<Loaded>> {
    reader.next_batch().map_err(|error: LoadError| anyhow::Error::from(error).context(format!("load {name}")))
}

fn print(report: &Report) {
    let silver = report.kind.silver().name;
    println!(
        "{}: {} records = {} accepted + {} duplicates + {} dead letters + {} blank; {silver}: {} added, {} changed{}",
        report.file,
        report.records,
        report.accepted,
        report.duplicates,
        report.dead_letters,
        report.blank_lines,
        report.added,
        report.changed,
        if report.is_known { "; bronze has this file already" } else { "" }
    );
    for warning in &report.warnings {
        println!("  WARNING {warning}");
    }
    for figure in &report.quality {
        let ratio = figure.ratio.map_or("-".to_owned(), |r| format!("{:.4} %", r * 100.0));
        println!("  {:<32} {:>10} of {:<10} {ratio}", figure.check, figure.passed, figure.total);
    }
}
