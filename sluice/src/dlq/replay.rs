//! `sluice dlq replay`: letters through the stream again, each once.

use super::{
    decide::{Candidate, Decision, NOT_YET, Place, Trial, decide},
    facts::{Witness, open_log},
    letters::{Filters, Key, Letter, Letters, pieces},
    outcome::{Outcome, Summary},
    replays::{FOUND, INTENDED, Note, REPLAYED, Replays},
    tail::{REPLAYED_FROM, replayed_since},
};
use crate::{Config, WrongUse, pipeline::now_millis};
use anyhow::{Context, Result, bail};
use arrow::{
    array::AsArray,
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use indicatif::{ProgressBar, ProgressStyle};
use sluice_event_log::{EventLog, LogError, LogKind};
use sluice_events::{DeadLetter, LogTime, Partition, RecordBuffer, RecordView, Schemas};
use sluice_producer::{POSITION_HEADER, SOURCE_HEADER};
use sluice_sinks::lake::{Lake, fault_point};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::runtime::Runtime;

/// Letters that are held in memory, sent and noted together.
const LETTERS_AT_ONCE: usize = 2_000;
/// And their bytes, about; a larger one goes alone.
const BYTES_AT_ONCE: i64 = 32 << 20;
/// On Kafka another replay may be between its intent and its record; after so long it has died.
const UNDER_WAY_MILLIS: i64 = 60_000;

/// Which letters to replay.
pub(crate) struct Which {
    pub names: Vec<String>,
    pub filters: Filters,
    pub all: bool,
}

/// Replays, or says what a replay would do; says whether everything asked for went.
pub(crate) fn run(config: &Config, which: &Which, dry_run: bool, json: bool) -> Result<bool> {
    let nothing_said = which.names.is_empty() && which.filters.are_none() && which.filters.limit.is_none();
    if nothing_said && !which.all && !dry_run {
        let message =
            "say which letters: their names, filters such as --reason future, or --all; --dry-run says what would be";
        return Err(WrongUse(message.to_owned()).into());
    }
    if !which.names.is_empty() && (which.all || !which.filters.are_none() || which.filters.limit.is_some()) {
        return Err(WrongUse("give letters by name or by filters, not both".to_owned()).into());
    }
    let runtime = crate::roles::runtime()?;
    let log = match open_log(config) {
        Ok(log) => log,
        Err(error @ LogError::InUse { .. }) if !dry_run => {
            let what =
                "stop the running sluice first (Ctrl-C), replay, and start it again: it takes the records in then";
            return Err(anyhow::Error::from(error).context(what));
        }
        Err(LogError::InUse { .. }) => {
            eprintln!("the event log is in use by a running sluice: what it has not committed yet is not looked at");
            None
        }
        Err(error) => return Err(error).context("open event log"),
    };
    let schemas = match dry_run {
        true => Schemas::read_only(&config.registry),
        false => Schemas::open(&config.registry, |s| config.topics.avro(s)).context("open schema registry")?,
    };
    let Some(mut letters) = Letters::open(config, &runtime)? else {
        if let Some(name) = which.names.first() {
            return Err(WrongUse(format!("there is no dead letter '{name}': none was ever written")).into());
        }
        println!("{}", if json { Summary::default().json().to_string() } else { Summary::default().text() });
        return Ok(true);
    };
    // Names that are wrong are told before anything is done.
    let keys = runtime.block_on(async {
        match which.names.is_empty() {
            true => letters.keys(&which.filters.condition(), &which.filters.limit(None)).await,
            false => letters.named(&which.names).await,
        }
    })?;
    let sender = match dry_run || keys.is_empty() {
        true => None,
        false => {
            let log = log.clone().context("there is no event log to send to")?;
            let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
            loop {
                let replays = Replays::open(&lake, &config.topics.events)?;
                // What was committed before the table was opened must be seen.
                letters = Letters::open(config, &runtime)?.context("the dead letters are gone")?;
                let wait = match config.log.kind {
                    // Whoever has the log open is alone.
                    LogKind::Embedded => Duration::ZERO,
                    LogKind::Kafka => until_others_have_ended(&runtime, &letters)?,
                };
                if wait.is_zero() {
                    break Some(Sender { log, topic: config.topics.events.clone(), replays });
                }
                eprintln!("a replay is under way, or died within the last minute: waiting {} s", wait.as_secs() + 1);
                std::thread::sleep(wait);
            }
        }
    };
    let witness = Witness::new(config, &runtime, letters, &Arc::new(schemas), log.as_deref())?;
    let mut replay = Replay { runtime, witness, sender, taken: HashMap::new(), json, summary: Summary::default() };
    let progress = ProgressBar::new(keys.len() as u64).with_style(
        ProgressStyle::with_template("replay {bar:30} {pos}/{len} letters, {eta} left")
            .unwrap_or(ProgressStyle::default_bar()),
    );
    for some in pieces(&keys, LETTERS_AT_ONCE, BYTES_AT_ONCE) {
        replay.replay(some, &progress)?;
        progress.inc(some.len() as u64);
    }
    progress.finish_and_clear();
    println!("{}", if json { replay.summary.json().to_string() } else { replay.summary.text() });
    if replay.summary.count("replayed") > 0 && config.log.kind == LogKind::Embedded {
        eprintln!("a running sluice takes the records in: start it, or `sluice up --no-producer --until-drained`");
    }
    Ok(replay.summary.bad == 0)
}

/// How long a replay may still be under way that has noted what it means to send, and not that it did.
fn until_others_have_ended(runtime: &Runtime, letters: &Letters) -> Result<Duration> {
    let sql = "SELECT CAST(max(at) AS BIGINT) / 1000 FROM replays
               WHERE letter NOT IN (SELECT letter FROM replays WHERE outcome <> 'intended')";
    let newest = runtime.block_on(async { letters.context.sql(sql).await?.collect().await })?;
    let newest =
        newest.first().filter(|b| b.num_rows() > 0).map(|b| cast(b.column(0), &DataType::Int64)).transpose()?;
    let newest = newest.and_then(|c| c.as_primitive::<Int64Type>().iter().next().flatten());
    let wait = newest.map_or(0, |at| at + UNDER_WAY_MILLIS - now_millis());
    Ok(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
}

/// The hands of a replay; a dry run has none.
struct Sender {
    log: Arc<dyn EventLog>,
    topic: String,
    replays: Replays,
}

struct Replay {
    runtime: Runtime,
    witness: Witness,
    sender: Option<Sender>,
    /// Ids of events that this replay has sent: another letter may be of the same event.
    taken: HashMap<String, Place>,
    json: bool,
    summary: Summary,
}

impl Replay {
    fn replay(&mut self, keys: &[Key], progress: &ProgressBar) -> Result<()> {
        let letters = self.runtime.block_on(self.witness.letters.read(keys))?;
        let mut decisions = Vec::with_capacity(letters.len());
        for mut facts in self.witness.facts(&self.runtime, &letters)? {
            if let Trial::Good(event) = &facts.trial {
                facts.holder = facts.holder.or_else(|| self.taken.get(&event.event_id).copied());
            }
            let decision = decide(facts);
            match &decision {
                // Its offset is not known before it is there.
                Decision::Send(event) => {
                    self.taken.insert(event.event_id.clone(), Place { partition: event.partition, offset: NOT_YET })
                }
                Decision::Note { event_id, place } => self.taken.insert(event_id.clone(), *place),
                _ => None,
            };
            decisions.push(decision);
        }
        let sent = match &mut self.sender {
            None => HashMap::new(),
            Some(sender) => sender.send(&letters, &decisions)?,
        };
        for (letter, decision) in letters.iter().zip(&decisions) {
            let place = sent.get(&*letter.name).copied();
            if let (Decision::Send(event), Some(place)) = (decision, place) {
                self.taken.insert(event.event_id.clone(), place);
            }
            let outcome = Outcome { letter: &letter.name, decision, sent: place };
            self.summary.add(&outcome);
            let line = match self.json {
                true => outcome.json().to_string(),
                false => format!("{:<32} {}", letter.name, outcome.text()),
            };
            progress.suspend(|| println!("{line}"));
        }
        Ok(())
    }
}

impl Sender {
    /// Notes what will be sent, sends it, and notes where it went.
    fn send<'a>(&mut self, letters: &'a [Letter], decisions: &[Decision]) -> Result<HashMap<&'a str, Place>> {
        let mut sends: Vec<(&Letter, &Candidate)> = Vec::new();
        let mut notes = Vec::new();
        let mut ends: BTreeMap<u32, Place> = BTreeMap::new();
        for (letter, decision) in letters.iter().zip(decisions) {
            match decision {
                Decision::Send(event) => {
                    let partition = event.partition;
                    if let std::collections::btree_map::Entry::Vacant(entry) = ends.entry(partition) {
                        let offset = self.log.offsets(&self.topic, Partition::new(partition))?.end.get();
                        entry.insert(Place { partition, offset });
                    }
                    let place = ends[&partition];
                    notes.push(Note { letter: &letter.name, event_id: &event.event_id, outcome: INTENDED, place });
                    sends.push((letter, event));
                }
                Decision::Note { event_id, place } => {
                    notes.push(Note { letter: &letter.name, event_id, outcome: FOUND, place: *place });
                }
                _ => {}
            }
        }
        self.replays.note(&notes)?;
        if sends.is_empty() {
            return Ok(HashMap::new());
        }
        fault_point("dlq", "before append");
        for partition in ends.keys() {
            let mut records = RecordBuffer::new();
            for (letter, event) in sends.iter().filter(|(_, event)| event.partition == *partition) {
                push(&mut records, letter, event);
            }
            self.log.append(&self.topic, Partition::new(*partition), &records).context("send the records")?;
        }
        self.log.flush().context("send the records")?;
        fault_point("dlq", "after append");
        let mut there = HashMap::new();
        for from in ends.values() {
            there.extend(replayed_since(self.log.as_ref(), &self.topic, *from)?);
        }
        let mut sent = HashMap::new();
        for (letter, _) in &sends {
            let Some(place) = there.get(&letter.name) else {
                bail!("{} was sent, and is not in the log; run the replay again", letter.name);
            };
            sent.insert(letter.name.as_str(), *place);
        }
        let notes: Vec<_> = sends
            .iter()
            .map(|(letter, event)| Note {
                letter: &letter.name,
                event_id: &event.event_id,
                outcome: REPLAYED,
                place: sent[letter.name.as_str()],
            })
            .collect();
        self.replays.note(&notes)?;
        Ok(sent)
    }
}

/// The record as it was, with the letter's name; the log stamps it anew.
fn push(records: &mut RecordBuffer, letter: &Letter, event: &Candidate) {
    let DeadLetter { headers, log_time, .. } = &letter.dead;
    let before =
        RecordView { time: *log_time, key: None, value: None, headers: headers.as_deref().unwrap_or_default() };
    // Where a line stood in its file is said by the record that is there in the file's order: it tells a replay of the file
    // where to go on.
    let is_kept = |name: &str| ![REPLAYED_FROM, SOURCE_HEADER, POSITION_HEADER].contains(&name);
    let mut headers: Vec<_> = before.header_pairs().filter(|(name, _)| is_kept(name)).collect();
    headers.push((REPLAYED_FROM, letter.name.as_bytes()));
    records.push(LogTime::new(0), event.key.as_deref(), Some(&event.value), &headers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_events::{Reason, Stage};

    #[test]
    fn a_record_goes_as_it_was_but_for_what_says_where_it_stood() {
        let mut before = RecordBuffer::new();
        let value: Option<&[u8]> = Some(b"v");
        let headers: [(&str, &[u8]); 4] =
            [("made-by", b"a shop"), (SOURCE_HEADER, b"f#1"), (POSITION_HEADER, b"7"), (REPLAYED_FROM, b"events:0:1")];
        before.push(LogTime::new(5), Some(b"k"), value, &headers);
        let dead = DeadLetter {
            stage: Stage::Validate,
            reason: Reason::Future,
            message: String::new(),
            key: Some(b"k".to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: Some(before.get(0).headers.to_vec()),
            source: "events".to_owned(),
            partition: Some(0),
            position: 9,
            log_time: LogTime::new(5),
        };
        let letter = Letter { name: "events:0:9".to_owned(), dead };
        let event =
            Candidate { event_id: "e".to_owned(), partition: 0, key: Some(b"k".to_vec()), value: b"v".to_vec() };
        let mut records = RecordBuffer::new();
        push(&mut records, &letter, &event);
        let record = records.get(0);
        assert_eq!((record.time.get(), record.key, record.value), (0, Some(&b"k"[..]), value));
        let headers: Vec<_> = record.header_pairs().collect();
        assert_eq!(headers, [("made-by", &b"a shop"[..]), (REPLAYED_FROM, &b"events:0:9"[..])]);
    }
}
