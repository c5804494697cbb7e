//! Files into the log, once each, however often the replay is killed and started again.

use super::{
    csv_rows::CsvRows,
    lines::{Line, Lines},
    resume::{Positions, last_positions},
    source::{Format, Source},
};
use crate::{Clock, ProducerError, ProducerTopics, Progress, Sent, outbox::Outbox, pace::Pace};
use serde::Serialize;
use sluice_event_log::EventLog;
use sluice_events::{DeadLetter, EventFields, EventTime, Partition, Reason, Refusal, Stage};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Header that names the source: `basename#fingerprint`.
pub const SOURCE_HEADER: &str = "sluice-source";
/// Header with the line number, from 1, in decimal.
pub const POSITION_HEADER: &str = "sluice-position";

/// Lines between two looks at the stop flag and two reports.
const LINES_PER_LOOK: u64 = 1_024;
/// A paced replay sends what it holds before it waits longer than this.
const HOLD_MILLIS: i64 = 20;

/// What to replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayConfig {
    /// NDJSON or CSV files, plain or gzip, one after the other.
    pub files: Vec<PathBuf>,
    /// Seconds of event time that pass in one second: 1 as recorded, 60 an hour in a minute, 0 as fast as possible.
    pub speed: f64,
}

/// What a replay did. Lines = events + dead letters + blank lines + skipped, plus one header a CSV file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplaySummary {
    /// Lines read, records of several lines counted once.
    pub lines: u64,
    /// Events sent.
    pub events: u64,
    /// Lines sent as dead letters.
    pub dead_letters: u64,
    /// Lines without content.
    pub blank_lines: u64,
    /// Lines that an earlier run had sent.
    pub skipped: u64,
    /// Bytes read from the disk.
    pub bytes: u64,
    /// Whether the stop flag ended it.
    pub stopped: bool,
}

impl fmt::Display for ReplaySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, events, dead_letters, skipped, .. } = self;
        write!(f, "{lines} lines: {events} events, {dead_letters} dead letters, {skipped} sent before")?;
        if self.stopped { f.write_str("; stopped before the end") } else { Ok(()) }
    }
}

/// Bytes of the files together, for a progress bar.
pub fn replay_bytes(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum()
}

/// Sends every line of the files: as an event, or as a dead letter in the same order. Lines that are in the log already,
/// by the headers of its records, are not sent again. Everything sent is flushed when it returns.
/// The number of partitions must not change between a killed run and the next. A file shorter than 64 KiB that has grown
/// counts as another source.
///
/// # Errors
/// When a file cannot be read or the log fails. Starting again goes on where the log ends.
pub fn replay(
    config: &ReplayConfig,
    log: &dyn EventLog,
    topics: &ProducerTopics,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<ReplaySummary, ProducerError> {
    if !(config.speed >= 0.0 && config.speed.is_finite()) {
        let problem = format!("{}; give 1 for as recorded, 0 for as fast as possible", config.speed);
        return Err(ProducerError::Knob { key: "speed", problem });
    }
    let names = config.files.iter().map(|f| Source::open(f).map(|s| s.name)).collect::<Result<Vec<_>, _>>()?;
    let mut replay = Replay {
        topics,
        clock,
        stop,
        progress,
        pace: Pace::new(config.speed),
        events: Outbox::new(log, &topics.events)?,
        letters: Outbox::new(log, &topics.dead_letters)?,
        sent_events: last_positions(log, &topics.events, &names)?,
        sent_letters: last_positions(log, &topics.dead_letters, &names)?,
        value: Vec::new(),
        summary: ReplaySummary::default(),
    };
    for file in &config.files {
        let bytes = replay.summary.bytes;
        let mut source = Source::open(file)?;
        let content = std::mem::replace(&mut source.content, Box::new(io::empty()));
        replay.file(&source, Lines::new(content), bytes)?;
        if replay.summary.stopped {
            break;
        }
    }
    replay.send_all()?;
    log.flush()?;
    progress.finish();
    Ok(replay.summary)
}

struct Replay<'a> {
    topics: &'a ProducerTopics,
    clock: &'a dyn Clock,
    stop: &'a AtomicBool,
    progress: &'a dyn Progress,
    pace: Pace,
    events: Outbox<'a>,
    letters: Outbox<'a>,
    sent_events: Positions,
    sent_letters: Positions,
    value: Vec<u8>,
    summary: ReplaySummary,
}

/// A source with what the log holds of it.
struct Place<'a> {
    /// Name in the headers.
    name: &'a str,
    file_name: &'a str,
    sent_events: Vec<u64>,
    sent_letters: Vec<u64>,
    /// All dead letters of a source go to one partition, in order.
    letters_partition: Partition,
}

impl Replay<'_> {
    fn file<R: io::Read>(&mut self, source: &Source, mut lines: Lines<R>, bytes: u64) -> Result<(), ProducerError> {
        let failed = |e| ProducerError::Read { path: source.path.clone(), source: e };
        let place = Place {
            name: &source.name,
            file_name: &source.file_name(),
            sent_events: self.sent_events.get(&source.name).cloned().unwrap_or_default(),
            sent_letters: self.sent_letters.get(&source.name).cloned().unwrap_or_default(),
            letters_partition: self.letters.partition(source.name.as_bytes()),
        };
        let mut rows = match source.format {
            Format::Ndjson => None,
            Format::Csv => self.header(&source.path, &mut lines)?,
        };
        if rows.is_none() && source.format == Format::Csv {
            return Ok(());
        }
        loop {
            let line = if rows.is_some() { lines.next_record() } else { lines.next() };
            let Some(line) = line.map_err(failed)? else { break };
            self.summary.lines += 1;
            if self.summary.lines.is_multiple_of(LINES_PER_LOOK) && self.look(bytes + source.read_bytes.get()) {
                return Ok(());
            }
            if line.bytes.trim_ascii().is_empty() {
                self.summary.blank_lines += 1;
                continue;
            }
            let fields = match &mut rows {
                _ if line.cut_bytes > 0 => {
                    let message = format!("the line is {} bytes too long; this is its head", line.cut_bytes);
                    Err(Refusal::new(Reason::TooLarge, message))
                }
                Some(rows) => rows.fields(line.bytes),
                None => EventFields::from_json(line.bytes),
            };
            self.line(&place, line, fields)?;
            if self.summary.stopped {
                return Ok(());
            }
        }
        self.look(bytes + source.read_bytes.get());
        Ok(())
    }

    /// The header of a CSV file; none when the file is empty.
    fn header<R: io::Read>(&mut self, path: &Path, lines: &mut Lines<R>) -> Result<Option<CsvRows>, ProducerError> {
        loop {
            let line = lines.next_record().map_err(|source| ProducerError::Read { path: path.to_owned(), source })?;
            let Some(line) = line else { return Ok(None) };
            self.summary.lines += 1;
            if line.bytes.trim_ascii().is_empty() {
                self.summary.blank_lines += 1;
                continue;
            }
            let number = line.number;
            return CsvRows::new(line.bytes).map(Some).map_err(|message| ProducerError::Input {
                path: path.to_owned(),
                line: number,
                message,
            });
        }
    }

    fn line(
        &mut self,
        place: &Place<'_>,
        line: Line<'_>,
        fields: Result<EventFields<'_>, Refusal>,
    ) -> Result<(), ProducerError> {
        let refusal = match &fields {
            Ok(fields) => match fields.event() {
                Ok(event) => {
                    let key = event.key().as_bytes();
                    let partition = self.events.partition(key);
                    if line.number <= place.sent_events[partition.get() as usize] {
                        self.summary.skipped += 1;
                        return Ok(());
                    }
                    self.wait_for(event.event_time)?;
                    if self.summary.stopped {
                        return Ok(());
                    }
                    self.value.clear();
                    self.topics.event_encoder.encode(&event, &mut self.value);
                    let mut digits = [0; 20];
                    let headers = headers(place.name, line.number, &mut digits);
                    self.events.push(partition, Some(key), &self.value, &headers)?;
                    self.summary.events += 1;
                    return Ok(());
                }
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal.clone(),
        };
        self.dead_letter(place, line, refusal)
    }

    fn dead_letter(&mut self, place: &Place<'_>, line: Line<'_>, refusal: Refusal) -> Result<(), ProducerError> {
        let partition = place.letters_partition;
        if line.number <= place.sent_letters[partition.get() as usize] {
            self.summary.skipped += 1;
            return Ok(());
        }
        let letter = DeadLetter {
            stage: Stage::Replay,
            reason: refusal.reason,
            message: refusal.message,
            key: None,
            value: Some(line.bytes.to_vec()),
            headers: None,
            source: place.file_name.to_owned(),
            partition: None,
            position: line.number as i64,
            log_time: self.clock.now(),
        };
        let value = self.topics.dead_letter_codec.encode(&letter)?;
        let mut digits = [0; 20];
        let headers = headers(place.name, line.number, &mut digits);
        self.letters.push(partition, Some(place.name.as_bytes()), &value, &headers)?;
        self.summary.dead_letters += 1;
        Ok(())
    }

    /// Waits until the event is due; sends what is held before a longer wait. Ends early when stopped.
    fn wait_for(&mut self, event_time: EventTime) -> Result<(), ProducerError> {
        loop {
            let wait = self.pace.wait_millis(event_time.get(), self.clock);
            if wait <= 0 {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                self.summary.stopped = true;
                return Ok(());
            }
            if wait > HOLD_MILLIS {
                self.send_all()?;
                self.report();
            }
            Pace::nap(wait, self.clock);
        }
    }

    /// Reports; says whether to stop.
    fn look(&mut self, bytes: u64) -> bool {
        self.summary.bytes = bytes;
        self.report();
        self.summary.stopped |= self.stop.load(Ordering::Relaxed);
        self.summary.stopped
    }

    fn report(&self) {
        let ReplaySummary { events, dead_letters, skipped, bytes, .. } = self.summary;
        self.progress.report(Sent { records: events + dead_letters + skipped, bytes });
    }

    fn send_all(&mut self) -> Result<(), ProducerError> {
        self.events.send_all()?;
        self.letters.send_all()
    }
}

fn headers<'h>(source: &'h str, position: u64, digits: &'h mut [u8; 20]) -> [(&'static str, &'h [u8]); 2] {
    let mut at = digits.len();
    let mut rest = position;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    [(SOURCE_HEADER, source.as_bytes()), (POSITION_HEADER, &digits[at..])]
}
