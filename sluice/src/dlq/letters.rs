//! Finding dead letters in the lake.

use crate::{Config, WrongUse, pipeline::now_millis, query};
use anyhow::{Context, Result, bail};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int32Type, Int64Type},
};
use clap::Args;
use datafusion::execution::context::SessionContext;
use futures::StreamExt;
use sluice_events::{DeadLetter, LogTime, Reason, Stage, parse_event_time};
use std::collections::HashMap;
use tokio::runtime::Runtime;

/// A letter's name in SQL; the name of a line needs a time, because another file of that name may have another line there.
const NAME: &str = "CASE WHEN _partition IS NULL
    THEN concat(source, ':', CAST(_offset AS VARCHAR), '@', CAST(CAST(log_time AS BIGINT) / 1000 AS VARCHAR))
    ELSE concat(source, ':', CAST(_partition AS VARCHAR), ':', CAST(_offset AS VARCHAR)) END";
/// Names looked up in one query.
const NAMES_A_QUERY: usize = 200;

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Filters {
    /// Where it was refused: replay, decode, validate or load.
    #[arg(long, value_parser = |text: &str| Stage::try_from(text.to_owned()))]
    pub stage: Option<Stage>,
    /// Why, such as future or unknown_schema_id.
    #[arg(long, value_parser = |text: &str| Reason::try_from(text.to_owned()))]
    pub reason: Option<Reason>,
    /// The name of the topic or file has this in it.
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,
    /// Taken by the log since then, or for a line of a file, refused since then: a time, or a duration before now.
    #[arg(long, value_name = "TIME|DURATION", value_parser = |text: &str| since(text, now_millis()))]
    pub since: Option<i64>,
    /// So many at most: the newest in a list, the oldest in a replay.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

fn since(text: &str, now: i64) -> Result<i64, String> {
    match humantime::parse_duration(text) {
        Ok(before) => Ok(now.saturating_sub(i64::try_from(before.as_millis()).unwrap_or(i64::MAX))),
        Err(_) => parse_event_time(text).map(|t| t.get()).map_err(|e| format!("{e}; nor a duration such as 2h")),
    }
}

impl Filters {
    /// Whether nothing is filtered.
    pub fn are_none(&self) -> bool {
        self.stage.is_none() && self.reason.is_none() && self.source.is_none() && self.since.is_none()
    }

    /// The condition in SQL, over `letters`.
    pub fn condition(&self) -> String {
        let mut all = vec!["true".to_owned()];
        all.extend(self.stage.map(|s| format!("stage = {}", quoted(s.as_str()))));
        all.extend(self.reason.map(|r| format!("reason = {}", quoted(r.code()))));
        all.extend(self.source.as_ref().map(|s| format!("strpos(source, {}) > 0", quoted(s))));
        all.extend(self.since.map(|from| format!("log_time >= {}", moment(from))));
        all.join(" AND ")
    }

    /// The limit in SQL.
    pub fn limit(&self, default: Option<usize>) -> String {
        self.limit.or(default).map_or(String::new(), |n| format!(" LIMIT {n}"))
    }
}

/// A text as SQL has it.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A list of texts as SQL has it.
pub(crate) fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn moment(millis: i64) -> String {
    format!("arrow_cast({millis}, 'Timestamp(Millisecond, Some(\"UTC\"))')")
}

/// The number that a letter's name ends with: an offset or a line. None: it is no name of a letter.
fn position_in(name: &str) -> Option<i64> {
    let (_, place) = name.rsplit_once(':')?;
    place.split_once('@').map_or(place, |(line, _)| line).parse().ok()
}

/// What finds a letter again, and says whether there is room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub name: String,
    log_time: i64,
    bytes: i64,
}

/// Cuts keys, in their order, into pieces that are read together: of so many letters, and about so many bytes.
pub(crate) fn pieces(keys: &[Key], letters_max: usize, bytes_max: i64) -> Vec<&[Key]> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, key) in keys.iter().enumerate() {
        if i > start && (i - start == letters_max || bytes + key.bytes > bytes_max) {
            pieces.push(&keys[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += key.bytes;
    }
    pieces.extend((start < keys.len()).then(|| &keys[start..]));
    pieces
}

/// A dead letter with its name.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub name: String,
    pub dead: DeadLetter,
}

/// The lake, with `letters` (all dead letters and their names) and `replays` (what was meant and what was sent) as tables.
pub(crate) struct Letters {
    pub context: SessionContext,
}

impl Letters {
    /// None when no letter was ever written.
    pub fn open(config: &Config, runtime: &Runtime) -> Result<Option<Self>> {
        let context = query::session(config, runtime.handle())?;
        runtime.block_on(async {
            let Ok(table) = context.table("bronze.dead_letters").await else { return Ok(None) };
            // A table that an older sluice made has no schema ids.
            let schema_id = match table.schema().has_column_with_unqualified_name("_schema_id") {
                true => "_schema_id",
                false => "CAST(NULL AS INT)",
            };
            let letters = format!(
                "SELECT stage, reason, message, key, value, headers, source, _partition, _offset, log_time,
                 {schema_id} AS schema_id, {NAME} AS letter FROM bronze.dead_letters"
            );
            context.register_table("letters", context.sql(&letters).await?.into_view())?;
            let replays = match context.table("bronze.dead_letter_replays").await {
                Ok(table) => table,
                Err(_) => {
                    let none = "SELECT '' AS letter, '' AS event_id, '' AS outcome, now() AS at, '' AS topic,
                                CAST(0 AS INT) AS _partition, CAST(0 AS BIGINT) AS _offset WHERE false";
                    context.sql(none).await?
                }
            };
            context.register_table("replays", replays.into_view())?;
            let done = "SELECT letter, max(at) AS replayed_at FROM replays WHERE outcome <> 'intended' GROUP BY letter";
            context.register_table("replayed", context.sql(done).await?.into_view())?;
            Ok(Some(Self { context }))
        })
    }

    /// The letters that a condition in SQL holds for, oldest first.
    pub async fn keys(&self, condition: &str, limit: &str) -> Result<Vec<Key>> {
        let sql = format!(
            "SELECT letter, CAST(log_time AS BIGINT) / 1000 AS at, coalesce(character_length(encode(value, 'hex')) / 2, 0)
             FROM letters WHERE {condition}
             ORDER BY log_time, source, _partition, _offset{limit}"
        );
        let mut keys = Vec::new();
        for batch in self.context.sql(&sql).await?.collect().await? {
            let names = texts(&batch, 0)?;
            let [times, bytes] = [1, 2].map(|column| cast(batch.column(column), &DataType::Int64));
            let (times, bytes) = (times?, bytes?);
            let (times, bytes) = (times.as_primitive::<Int64Type>(), bytes.as_primitive::<Int64Type>());
            keys.extend((0..batch.num_rows()).map(|row| Key {
                name: names.as_string::<i32>().value(row).to_owned(),
                log_time: times.value(row),
                bytes: bytes.value(row),
            }));
        }
        Ok(keys)
    }

    /// The letters of these names, oldest first.
    ///
    /// # Errors
    /// [`WrongUse`] when there is no such letter, or a short name is that of several.
    pub async fn named(&self, names: &[String]) -> Result<Vec<Key>> {
        let mut found: Vec<Key> = Vec::new();
        for some in names.chunks(NAMES_A_QUERY) {
            let mut conditions = Vec::new();
            for name in some {
                let Some(position) = position_in(name) else {
                    let message = format!("'{name}' is no letter's name; `sluice dlq list` shows them");
                    return Err(WrongUse(message).into());
                };
                let (whole, short) = (quoted(name), quoted(&format!("{name}@")));
                conditions.push(format!("_offset = {position} AND (letter = {whole} OR starts_with(letter, {short}))"));
            }
            let keys = self.keys(&format!("({})", conditions.join(" OR ")), "").await?;
            for name in some {
                let is_it = |key: &&Key| key.name == *name || key.name.rsplit_once('@').is_some_and(|(n, _)| n == name);
                let mine: Vec<_> = keys.iter().filter(is_it).collect();
                match mine[..] {
                    [] => return Err(WrongUse(format!("there is no dead letter '{name}'")).into()),
                    [one] if !found.contains(one) => found.push(one.clone()),
                    [_] => {}
                    _ => {
                        let names: Vec<_> = mine.iter().map(|key| key.name.as_str()).collect();
                        return Err(WrongUse(format!("'{name}' may be {}", names.join(" or "))).into());
                    }
                }
            }
        }
        found.sort_by_key(|key| key.log_time);
        Ok(found)
    }

    /// The letters of these keys, in their order.
    pub async fn read(&self, keys: &[Key]) -> Result<Vec<Letter>> {
        let times = keys.iter().map(|key| key.log_time);
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { return Ok(Vec::new()) };
        let place: HashMap<&str, usize> = keys.iter().enumerate().map(|(i, key)| (&*key.name, i)).collect();
        let sql = format!(
            "SELECT * FROM letters WHERE log_time >= {} AND log_time <= {} AND letter IN ({})",
            moment(first),
            moment(last),
            quoted_list(keys.iter().map(|key| &*key.name))
        );
        let mut letters: Vec<Option<Letter>> = vec![None; keys.len()];
        let mut stream = self.context.sql(&sql).await?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            for letter in letters_of(&batch?)? {
                if let Some(i) = place.get(&*letter.name) {
                    letters[*i] = Some(letter);
                }
            }
        }
        Ok(letters.into_iter().flatten().collect())
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).with_context(|| format!("bronze.dead_letters has no column {name}"))
}

pub(crate) fn texts(batch: &RecordBatch, column: usize) -> Result<ArrayRef> {
    Ok(cast(batch.column(column), &DataType::Utf8)?)
}

fn letters_of(batch: &RecordBatch) -> Result<Vec<Letter>> {
    let as_type = |name: &str, data_type| -> Result<ArrayRef> { Ok(cast(column(batch, name)?, &data_type)?) };
    let text = |name: &str| as_type(name, DataType::Utf8);
    let bytes = |name: &str| as_type(name, DataType::Binary);
    let (names, stages, reasons, messages, sources) =
        (text("letter")?, text("stage")?, text("reason")?, text("message")?, text("source")?);
    let (keys, values, headers) = (bytes("key")?, bytes("value")?, bytes("headers")?);
    let (partitions, offsets) = (as_type("_partition", DataType::Int32)?, as_type("_offset", DataType::Int64)?);
    let times = as_type("log_time", DataType::Int64)?;
    let bytes_at =
        |array: &ArrayRef, row: usize| array.is_valid(row).then(|| array.as_binary::<i32>().value(row).to_vec());
    let text_at = |array: &ArrayRef, row: usize| array.as_string::<i32>().value(row).to_owned();
    let mut letters = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let name = text_at(&names, row);
        let (stage, reason) = (Stage::try_from(text_at(&stages, row)), Reason::try_from(text_at(&reasons, row)));
        let (Ok(stage), Ok(reason)) = (stage, reason) else {
            bail!("the dead letter {name} has a stage or reason that this sluice does not know: a newer one wrote it");
        };
        let dead = DeadLetter {
            stage,
            reason,
            message: text_at(&messages, row),
            key: bytes_at(&keys, row),
            value: bytes_at(&values, row),
            headers: bytes_at(&headers, row),
            source: text_at(&sources, row),
            partition: partitions.is_valid(row).then(|| partitions.as_primitive::<Int32Type>().value(row)),
            position: offsets.as_primitive::<Int64Type>().value(row),
            log_time: LogTime::new(times.as_primitive::<Int64Type>().value(row) / 1000),
        };
        letters.push(Letter { name, dead });
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_position_whatever_the_source_is_called() {
        for (name, position) in [
            ("events:0:17", Some(17)),
            ("a:b.ndjson:3@1709287200123", Some(3)),
            ("mixed.ndjson:3", Some(3)),
            ("events", None),
            ("events:x", None),
        ] {
            assert_eq!(position_in(name), position, "{name}");
        }
    }

    #[test]
    fn pieces_are_cut_by_number_and_by_bytes() {
        let key = |bytes| Key { name: String::new(), log_time: 0, bytes };
        let keys: Vec<Key> = [1, 1, 1, 9, 50, 1, 1].map(key).into();
        let lengths = |letters_max, bytes_max| pieces(&keys, letters_max, bytes_max).iter().map(|p| p.len()).collect();
        let (by_number, by_bytes): (Vec<_>, Vec<_>) = (lengths(3, 100), lengths(9, 10));
        assert_eq!(by_number, [3, 3, 1]);
        assert_eq!(by_bytes, [3, 1, 1, 2], "a large one goes alone");
        assert!(pieces(&[], 3, 10).is_empty());
    }

    #[test]
    fn filters_become_a_condition_and_a_text_stays_a_text() {
        assert_eq!(Filters::default().condition(), "true");
        let filters = Filters {
            stage: Some(Stage::Decode),
            source: Some("it's".to_owned()),
            since: Some(5),
            ..Filters::default()
        };
        let condition = filters.condition();
        assert!(condition.starts_with("true AND stage = 'decode' AND strpos(source, 'it''s') > 0"), "{condition}");
        assert_eq!((filters.limit(Some(20)), Filters::default().limit(None)), (" LIMIT 20".into(), String::new()));
    }

    #[test]
    fn since_is_a_time_or_a_duration_before_now() {
        assert_eq!(since("2h", 10_000_000), Ok(2_800_000));
        assert_eq!(since("1970-01-01T00:00:05Z", 0), Ok(5_000));
        assert!(since("soon", 0).unwrap_err().contains("duration"));
    }
}
