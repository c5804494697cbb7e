//! What detectors are told beforehand: the calendar of promotions and holidays, and whose clock a country lives by.

use crate::{Config, WrongUse, config::DetectConfig};
use anyhow::{Context, Result};
use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use sluice_detectors::Clock;
use sluice_events::parse_event_time;
use sluice_stream_processor::KnownTimes;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Years whose changes of clocks are known.
const YEARS: std::ops::Range<i32> = 2000..2060;
const HOUR: i64 = 3_600_000;
/// No zone's clocks change twice within this, in milliseconds.
const STEP: i64 = 7 * 24 * HOUR;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// More than a calendar has.
const CALENDAR_BYTES_MAX: u64 = 16 << 20;

/// The known times of now, for all threads of a process: the calendar is read again now and then.
pub(crate) struct Calendars {
    config: Arc<Config>,
    generation: AtomicU64,
    current: RwLock<KnownTimes>,
    looked: Mutex<(Instant, Option<String>)>,
}

impl Calendars {
    /// Reads the calendar that the settings name.
    ///
    /// # Errors
    /// When it cannot be read, with file and line; an URL that does not answer now is asked again later.
    pub fn load(config: &Arc<Config>) -> Result<Arc<Self>> {
        let clocks = clocks(&config.detect)?;
        let mut times = KnownTimes { promotions: Vec::new(), clock_column: config.detect.clock_column.clone(), clocks };
        let mut told = None;
        match promotions(&config.detect.calendar) {
            Ok(promotions) => times.promotions = promotions,
            Err(error) if is_url(&config.detect.calendar) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the calendar does not answer: no promotion is known until it does");
                told = Some(error);
            }
            Err(error) => return Err(error),
        }
        Ok(Arc::new(Self {
            config: config.clone(),
            generation: AtomicU64::new(0),
            current: RwLock::new(times),
            looked: Mutex::new((Instant::now(), told)),
        }))
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn get(&self) -> KnownTimes {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the calendar again when it is time to. One that cannot be read is told about once; the old one holds on.
    pub fn look(&self) {
        let detect = &self.config.detect;
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if detect.calendar.is_empty()
            || detect.calendar_interval.is_zero()
            || looked.0.elapsed() < detect.calendar_interval
        {
            return;
        }
        looked.0 = Instant::now();
        match promotions(&detect.calendar) {
            Ok(promotions) => {
                looked.1 = None;
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.promotions != promotions {
                    tracing::info!(promotions = promotions.len(), "calendar read");
                    current.promotions = promotions;
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
            Err(error) => {
                let told = Some(format!("{error:#}"));
                if looked.1 != told {
                    tracing::warn!(error = told, "the calendar cannot be read now: what it said before holds on");
                    looked.1 = told;
                }
            }
        }
    }
}

fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

type Promotions = Vec<(i64, i64, BTreeMap<String, String>)>;

fn promotions(place: &str) -> Result<Promotions> {
    if place.is_empty() {
        return Ok(Vec::new());
    }
    let text = match is_url(place) {
        false => std::fs::read_to_string(place).map_err(|e| WrongUse(format!("detect.calendar: read {place}: {e}")))?,
        true => {
            let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).build().into();
            let mut answer = agent.get(place).call().with_context(|| format!("detect.calendar: ask {place}"))?;
            answer.body_mut().with_config().limit(CALENDAR_BYTES_MAX).read_to_string().context("detect.calendar")?
        }
    };
    read_calendar(&text, place)
}

/// Reads `start,end` and any number of group columns; `*` or nothing is any value. `name` is for people.
pub(crate) fn read_calendar(text: &str, place: &str) -> Result<Promotions> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(text.as_bytes());
    let header = reader.headers().with_context(|| format!("calendar {place}"))?.clone();
    let at = |name: &str| header.iter().position(|column| column == name);
    let (Some(start), Some(end)) = (at("start"), at("end")) else {
        return Err(WrongUse(format!("calendar {place}: its first line must name the columns start and end")).into());
    };
    let mut promotions = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| WrongUse(format!("calendar {place}: {e}")))?;
        let line = row.position().map_or(0, csv::Position::line);
        let time = |at: usize| {
            parse_event_time(&row[at])
                .map(sluice_events::EventTime::get)
                .map_err(|e| WrongUse(format!("calendar {place}, line {line}, column {}: {e}", &header[at])))
        };
        let (from, to) = (time(start)?, time(end)?);
        if to <= from {
            return Err(WrongUse(format!("calendar {place}, line {line}: it ends before it starts")).into());
        }
        let groups =
            header.iter().zip(row.iter()).enumerate().filter(|(at, (name, value))| {
                ![start, end].contains(at) && *name != "name" && !["", "*"].contains(value)
            });
        promotions.push((from, to, groups.map(|(_, (name, value))| (name.to_owned(), value.to_owned())).collect()));
    }
    promotions.sort();
    Ok(promotions)
}

/// The clocks of the zones that the settings give.
fn clocks(config: &DetectConfig) -> Result<Vec<Clock>> {
    let clock = |(value, zone): (&String, &String)| {
        let zone: Tz = zone
            .parse()
            .map_err(|_| WrongUse(format!("detect.zones.{value}: '{zone}' is no time zone, such as Europe/Paris")))?;
        Ok(Clock { value: value.clone(), offsets: offsets(zone) })
    };
    config.zones.iter().map(clock).collect()
}

/// When a zone's clocks change, and by how much they are ahead of UTC from then on, in milliseconds.
fn offsets(zone: Tz) -> Vec<(i64, i64)> {
    let ahead = |millis: i64| {
        let time = DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or_default();
        i64::from(zone.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc()) * 1000
    };
    let year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().map_or(0, |t| t.timestamp_millis());
    let (mut time, end) = (year(YEARS.start), year(YEARS.end));
    let mut current = ahead(time);
    let mut offsets = vec![(i64::MIN, current)];
    while time < end {
        let (mut before, mut after) = (time, time + STEP);
        let next = ahead(after);
        if next != current {
            // Clocks change on the minute.
            while after - before > 60_000 {
                let middle = before + (after - before) / 120_000 * 60_000;
                if ahead(middle) == current { before = middle } else { after = middle }
            }
            offsets.push((after, next));
        }
        (time, current) = (time + STEP, next);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_change_when_they_do() {
        let berlin = offsets("Europe/Berlin".parse().unwrap());
        let summer_2026 = 1_774_746_000_000; // 2026-03-29T01:00:00Z
        assert!(berlin.contains(&(summer_2026, 2 * HOUR)), "{berlin:?}");
        assert_eq!(offsets("Asia/Kolkata".parse().unwrap()), [(i64::MIN, 5 * HOUR + HOUR / 2)]);
    }

    #[test]
    fn a_calendar_is_read_and_its_mistakes_have_a_line() {
        let text = "start,end,name,country,category\n2026-11-27T00:00:00Z,2026-11-28T00:00:00Z,Black Friday,*,toys\n";
        let promotions = read_calendar(text, "c.csv").unwrap();
        let toys: BTreeMap<String, String> = [("category".to_owned(), "toys".to_owned())].into();
        assert_eq!(promotions, [(1_795_737_600_000, 1_795_824_000_000, toys)]);
        let wrong = |text| read_calendar(text, "c.csv").unwrap_err().to_string();
        assert!(wrong("from,to\n").contains("start and end"));
        assert!(wrong("start,end\n2026-01-02,2026-01-01\n").contains("line 2"));
        assert!(wrong("start,end\nsoon,2026-01-01\n").contains("column start"));
    }
}
