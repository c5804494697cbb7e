//! `sluice detect`: a detector over the windows of a CSV file, as the stream would show them to it.

use crate::{WrongUse, known_times::read_calendar, query::seen_enough};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use sluice_detectors::{Clock, CoverConfig, Detector, EwmaConfig, Frame, Member, Method, OneSeries, ZScoreConfig};
use sluice_events::parse_event_time;
use sluice_stream_processor::{ColumnKind, DetectSpec, KnownTimes, WatchColumn, WatchPlan, detector_of};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How one series is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeriesMethodName {
    /// Values unlike any seen before: for latencies, lags, sizes and whatever else has no model.
    Cover,
    /// Deviations from the mean of the last 60 rows.
    Zscore,
    /// Deviations from an exponentially weighted mean with a half-life of 30 rows.
    Ewma,
    /// Counts and rates: for files with several columns, see --watch.
    Rate,
}

/// `sluice detect`.
#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// A CSV file (plain or .gz): `timestamp,value`, or `timestamp`, group columns and counts; rows in order of time.
    file: PathBuf,
    /// How the numbers are watched.
    #[arg(long, value_enum, default_value_t = SeriesMethodName::Cover)]
    method: SeriesMethodName,
    /// What is watched, as in the `detect:` line of a model: "measure=orders orders/visits". May be repeated.
    #[arg(long, value_name = "KEY=VALUE,...")]
    watch: Vec<String>,
    /// A file with such lines.
    #[arg(long, value_name = "FILE")]
    watch_file: Option<PathBuf>,
    /// Promotions known beforehand: a CSV file with start,end and group columns.
    #[arg(long, value_name = "FILE")]
    promotions: Option<PathBuf>,
    /// Civil time: a CSV file with a group column, from, utc_offset_minutes.
    #[arg(long, value_name = "FILE")]
    clocks: Option<PathBuf>,
}

const TIME_COLUMN: &str = "timestamp";
const SERIES_MAX: usize = 100_000;

/// Prints scores to stdout.
pub(crate) fn run(args: &DetectArgs) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(&args.file)?);
    let header: Vec<String> =
        reader.headers().with_context(|| place(&args.file, 1))?.iter().map(str::to_owned).collect();
    if header.first().map(String::as_str) != Some(TIME_COLUMN) || header.len() < 2 {
        return Err(WrongUse(format!(
            "{}: its first line must be timestamp,value or timestamp,…",
            args.file.display()
        ))
        .into());
    }
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let is_one_series = header.len() == 2 && args.watch.is_empty() && args.watch_file.is_none();
    let done = match is_one_series {
        true => one_series(args, &header, &mut reader, &mut out),
        false => many_series(args, &header, &mut reader, &mut out),
    };
    seen_enough(done.and_then(|()| Ok(out.flush()?)))
}

fn open(file: &Path) -> Result<Box<dyn Read>> {
    let plain = File::open(file).map_err(|e| WrongUse(format!("read {}: {e}", file.display())))?;
    let plain = BufReader::with_capacity(1 << 20, plain);
    Ok(match file.extension().is_some_and(|e| e == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(plain)),
        false => Box::new(plain),
    })
}

fn place(file: &Path, line: u64) -> String {
    format!("{}, line {line}", file.display())
}

/// The rows of a file with time, in order.
fn rows(
    file: &Path,
    reader: &mut csv::Reader<Box<dyn Read>>,
    mut take: impl FnMut(i64, &csv::StringRecord) -> Result<()>,
) -> Result<()> {
    let mut row = csv::StringRecord::new();
    let mut last = i64::MIN;
    while reader.read_record(&mut row).map_err(|e| WrongUse(format!("{}: {e}", file.display())))? {
        let line = row.position().map_or(0, csv::Position::line);
        let time = parse_event_time(&row[0]).map_err(|e| WrongUse(format!("{}: {e}", place(file, line))))?.get();
        if time < last {
            return Err(WrongUse(format!("{}: rows must be in order of time", place(file, line))).into());
        }
        last = time;
        take(time, &row)?;
    }
    Ok(())
}

fn one_series(
    args: &DetectArgs,
    header: &[String],
    reader: &mut csv::Reader<Box<dyn Read>>,
    out: &mut impl Write,
) -> Result<()> {
    let mut series = OneSeries::new(match args.method {
        SeriesMethodName::Cover => Method::Cover(CoverConfig::default()),
        SeriesMethodName::Zscore => Method::ZScore(ZScoreConfig::default()),
        SeriesMethodName::Ewma => Method::Ewma(EwmaConfig::default()),
        SeriesMethodName::Rate => return many_series(args, header, reader, out),
    });
    writeln!(out, "{TIME_COLUMN},{},anomaly_score", header[1])?;
    rows(&args.file, reader, |time, row| {
        // What is no number is a gap.
        let value = row[1].parse().unwrap_or(f64::NAN);
        Ok(writeln!(out, "{},{},{:.6}", &row[0], &row[1], series.judge(time, value))?)
    })
}

fn many_series(
    args: &DetectArgs,
    header: &[String],
    reader: &mut csv::Reader<Box<dyn Read>>,
    out: &mut impl Write,
) -> Result<()> {
    let mut windows = Windows::of(args, header)?;
    let mut current: Option<i64> = None;
    let mut pending: Vec<csv::StringRecord> = Vec::new();
    // What the columns are, and how long a window is, the first two windows show.
    let mut starts: Vec<i64> = Vec::new();
    let file = &args.file;
    rows(file, reader, |time, row| {
        if current != Some(time) {
            if let Some(start) = current {
                starts.push(start);
                if starts.len() == 1 {
                    windows.begin(&pending, time - start, out)?;
                }
                windows.judge(start, &pending, out)?;
                pending.clear();
            }
            current = Some(time);
        }
        pending.push(row.clone());
        Ok(())
    })?;
    match current {
        Some(start) if !starts.is_empty() => windows.judge(start, &pending, out),
        _ => Err(WrongUse(format!("{}: it has less than two windows", file.display())).into()),
    }
}

/// The detectors of a file's windows.
struct Windows<'a> {
    args: &'a DetectArgs,
    header: &'a [String],
    times: KnownTimes,
    columns: Vec<WatchColumn>,
    watches: Vec<Running>,
    slide: i64,
    interned: BTreeMap<String, Arc<str>>,
}

struct Running {
    plan: WatchPlan,
    detector: Box<dyn Detector>,
    calendar: sluice_detectors::Calendar,
    frame: Frame,
}

impl<'a> Windows<'a> {
    fn of(args: &'a DetectArgs, header: &'a [String]) -> Result<Self> {
        let mut times = KnownTimes::default();
        if let Some(file) = &args.promotions {
            let text = std::fs::read_to_string(file).map_err(|e| WrongUse(format!("read {}: {e}", file.display())))?;
            times.promotions = read_calendar(&text, &file.display().to_string())?;
        }
        if let Some(file) = &args.clocks {
            (times.clock_column, times.clocks) = read_clocks(file)?;
        }
        Ok(Self { args, header, times, columns: Vec::new(), watches: Vec::new(), slide: 0, interned: BTreeMap::new() })
    }

    /// Looks at the first window: what is no number in it groups; what has a decimal point is an amount.
    fn begin(&mut self, first: &[csv::StringRecord], slide: i64, out: &mut impl Write) -> Result<()> {
        self.slide = slide;
        let kind = |at: usize| {
            let values = || first.iter().map(move |row| &row[at]).filter(|value| !value.is_empty());
            match values().all(|value| value.parse::<f64>().is_ok()) {
                false => ColumnKind::Group,
                true if values().any(|value| value.contains('.')) => ColumnKind::Amount,
                true => ColumnKind::Count,
            }
        };
        let names = self.header.iter().enumerate().skip(1);
        self.columns = names.map(|(at, name)| WatchColumn { name: name.clone(), kind: kind(at) }).collect();
        let specs = self.specs()?;
        let plans = WatchPlan::of(&specs, &self.columns, slide, SERIES_MAX).map_err(|e| WrongUse(e.to_string()))?;
        for plan in plans {
            let detector = detector_of(&plan).map_err(|e| WrongUse(e.to_string()))?;
            let calendar = self.times.for_columns(&plan.group_columns);
            let frame = Frame::new(plan.config.group_columns, plan.config.value_columns);
            self.watches.push(Running { plan, detector, calendar, frame });
        }
        let groups = self.columns.iter().filter(|c| c.kind == ColumnKind::Group).map(|c| format!("{},", c.name));
        let groups: String = groups.collect();
        Ok(writeln!(out, "{TIME_COLUMN},{groups}metric,score,observed,expected,lower,upper")?)
    }

    fn specs(&self) -> Result<Vec<DetectSpec>> {
        let mut lines = self.args.watch.clone();
        if let Some(file) = &self.args.watch_file {
            let text = std::fs::read_to_string(file).map_err(|e| WrongUse(format!("read {}: {e}", file.display())))?;
            let spec = |line: &str| line.trim().trim_start_matches("-- detect:").trim().to_owned();
            lines.extend(text.lines().map(spec).filter(|line| !line.is_empty() && !line.starts_with(['#', '-'])));
        }
        let method = self.args.method.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        if lines.is_empty() {
            let measures: Vec<&str> =
                self.columns.iter().filter(|c| c.kind != ColumnKind::Group).map(|c| &*c.name).collect();
            lines.push(format!("measure={}", measures.join(" ")));
        }
        let mut specs = Vec::new();
        for line in lines {
            // What the line itself says comes later, and counts.
            let text = format!("method={method}, {line}");
            specs.extend(DetectSpec::parse(&text).map_err(|e| WrongUse(format!("{line}: {e}")))?);
        }
        Ok(specs)
    }

    fn judge(&mut self, start: i64, rows: &[csv::StringRecord], out: &mut impl Write) -> Result<()> {
        let groups: Vec<usize> =
            (0..self.columns.len()).filter(|at| self.columns[*at].kind == ColumnKind::Group).collect();
        let mut intern = |value: &str| match self.interned.get(value) {
            Some(known) => known.clone(),
            None => self.interned.entry(value.to_owned()).or_insert_with(|| value.into()).clone(),
        };
        let keys: Vec<Vec<Option<Arc<str>>>> = rows
            .iter()
            .map(|row| {
                let value = |at: &usize| Some(&row[at + 1]).filter(|v| !v.is_empty()).map(&mut intern);
                groups.iter().map(value).collect()
            })
            .collect();
        let columns = &self.columns;
        for watch in &mut self.watches {
            watch.frame.clear(start, start + self.slide);
            let measure = |row: &&csv::StringRecord, name: &str| {
                let at = columns.iter().position(|c| c.name == name)?;
                row[at + 1].parse().ok()
            };
            watch.plan.fill(&mut watch.frame, keys.iter().cloned().zip(rows), measure);
            let mut findings = Vec::new();
            watch.detector.observe(&watch.frame, &watch.calendar, &mut findings);
            for finding in findings {
                let group = watch.detector.group(finding.node).iter().map(|member| match member {
                    Member::All => "*,".to_owned(),
                    Member::Value(value) => format!("{},", value.as_deref().unwrap_or_default()),
                });
                let reading = finding.reading;
                writeln!(
                    out,
                    "{},{}{},{:.4},{:.6},{:.6},{:.6},{:.6}",
                    &rows[0][0],
                    group.collect::<String>(),
                    watch.plan.specs[finding.metric].name,
                    reading.score,
                    reading.observed,
                    reading.expected,
                    reading.lower,
                    reading.upper
                )?;
            }
        }
        Ok(())
    }
}

/// Reads `<group column>,from,utc_offset_minutes`.
fn read_clocks(file: &Path) -> Result<(String, Vec<Clock>)> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(file)?);
    let header = reader.headers().with_context(|| place(file, 1))?.clone();
    if header.len() != 3 || &header[1] != "from" || &header[2] != "utc_offset_minutes" {
        let message = "its first line must be a group column, from, utc_offset_minutes";
        return Err(WrongUse(format!("{}: {message}", file.display())).into());
    }
    let mut clocks: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(|e| WrongUse(format!("{}: {e}", file.display())))?;
        let line = row.position().map_or(0, csv::Position::line);
        let wrong = |what: String| WrongUse(format!("{}: {what}", place(file, line)));
        let from = parse_event_time(&row[1]).map_err(|e| wrong(e.to_string()))?.get();
        let minutes: i64 = row[2].parse().map_err(|_| wrong(format!("'{}' is no number of minutes", &row[2])))?;
        clocks.entry(row[0].to_owned()).or_default().push((from, minutes * 60_000));
    }
    let clock = |(value, mut offsets): (String, Vec<(i64, i64)>)| {
        offsets.sort_unstable();
        // Before the first change that is known it was as after it.
        offsets[0].0 = i64::MIN;
        Clock { value, offsets }
    };
    Ok((header[0].to_owned(), clocks.into_iter().map(clock).collect()))
}
