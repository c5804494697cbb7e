//! `sluice dlq show`: all there is of one letter.

use super::{
    decide::decide,
    facts::{Witness, open_log},
    letters::{Letter, Letters},
    outcome::{Outcome, shown_time},
};
use crate::{Config, WrongUse};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_event_log::LogError;
use sluice_events::{LogTime, ReadableFields, RecordView, Schemas, readable_fields};
use std::{fmt::Write, sync::Arc};

/// Bytes of a value that are dumped.
const DUMPED_MAX: usize = 4_096;

/// Prints it.
pub(crate) fn run(config: &Config, name: &str, json: bool) -> Result<()> {
    let runtime = crate::roles::runtime()?;
    let Some(letters) = Letters::open(config, &runtime)? else {
        return Err(WrongUse(format!("there is no dead letter '{name}': none was ever written")).into());
    };
    let keys = runtime.block_on(letters.named(&[name.to_owned()]))?;
    let letter = runtime.block_on(letters.read(&keys))?.pop().context("the letter is gone")?;
    let schemas = Arc::new(Schemas::read_only(&config.registry));
    let schema = letter.dead.schema_id().map(|id| (id, schemas.by_id(id)));
    let fields = schema.as_ref().and_then(|(_, text)| {
        let body = letter.dead.value.as_deref()?.get(5..)?;
        readable_fields(text.as_ref().ok()?, body).ok()
    });
    let log = match open_log(config) {
        // What is not committed yet is not looked at.
        Err(LogError::InUse { .. }) => None,
        other => other.context("open event log")?,
    };
    let would = Witness::new(config, &runtime, letters, &schemas, log.as_deref())
        .and_then(|mut witness| witness.facts(&runtime, std::slice::from_ref(&letter)))
        .map(|mut facts| facts.pop().map(decide));
    let would = match &would {
        Ok(Some(decision)) => {
            let outcome = Outcome { letter: &letter.name, decision, sent: None };
            (outcome.text(), outcome.json())
        }
        Ok(None) => (String::new(), Value::Null),
        Err(error) => (format!("it cannot be said: {}", crate::causes(error)), Value::Null),
    };
    let schema = schema.map(|(id, text)| (id, text.err().map(|e| e.to_string())));
    match json {
        true => println!("{}", serde_json::to_string_pretty(&as_json(&letter, &schema, fields.as_ref(), would.1))?),
        false => print(&letter, &schema, fields.as_ref(), &would.0),
    }
    Ok(())
}

/// The schema's id, and why there is no schema of that id.
type SchemaSeen = Option<(u32, Option<String>)>;

fn headers(letter: &Letter) -> Vec<(String, String)> {
    let headers = letter.dead.headers.as_deref().unwrap_or_default();
    let view = RecordView { time: LogTime::new(0), key: None, value: None, headers };
    view.header_pairs().map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned())).collect()
}

fn print(letter: &Letter, schema: &SchemaSeen, fields: Option<&ReadableFields>, would: &str) {
    let dead = &letter.dead;
    println!("letter      {}", letter.name);
    println!("refused     {}: {} (stage {})", dead.reason.code(), dead.message, dead.stage.as_str());
    match dead.partition {
        Some(partition) => {
            println!("from        topic {}, partition {partition}, offset {}", dead.source, dead.position)
        }
        None => println!("from        file {}, line {}", dead.source, dead.position),
    }
    println!("log time    {}", shown_time(dead.log_time.get()));
    match schema {
        None => {}
        Some((id, Some(error))) => println!("schema      {id}: {error}"),
        Some((id, None)) => println!("schema      {id} {}", fields.map_or("", |f| &f.schema_name)),
    }
    if let Some(key) = &dead.key {
        println!("key         {}", String::from_utf8_lossy(key));
    }
    for (name, value) in headers(letter) {
        println!("header      {name}: {value}");
    }
    match dead.value.as_deref() {
        None => println!("value       none"),
        Some(value) => println!("value       {} bytes\n{}", value.len(), dump(value)),
    }
    if let Some(fields) = fields {
        println!("what can be read of it:");
        for (name, value) in &fields.fields {
            println!("  {name:<16} {value}");
        }
        if let Some(broken) = &fields.broken {
            println!("  then: {broken}");
        }
    }
    println!("a replay    {would}");
}

/// Text as it is, anything else in hexadecimal.
fn dump(value: &[u8]) -> String {
    let shown = &value[..value.len().min(DUMPED_MAX)];
    let mut out = match std::str::from_utf8(shown) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => format!("  {text}"),
        _ => {
            let mut lines = Vec::new();
            for (i, row) in shown.chunks(16).enumerate() {
                let mut hex = String::new();
                for byte in row {
                    let _ = write!(hex, "{byte:02x} ");
                }
                let text: String = row.iter().map(|b| if b.is_ascii_graphic() { *b as char } else { '.' }).collect();
                lines.push(format!("  {:06x}  {hex:<48} {text}", i * 16));
            }
            lines.join("\n")
        }
    };
    if shown.len() < value.len() {
        let _ = write!(out, "\n  and {} bytes more", value.len() - shown.len());
    }
    out
}

fn as_json(letter: &Letter, schema: &SchemaSeen, fields: Option<&ReadableFields>, would: Value) -> Value {
    let dead = &letter.dead;
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().and_then(|b| std::str::from_utf8(b).ok().map(str::to_owned));
    let hex = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| {
            bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        })
    };
    let fields = fields.map(|f| {
        let read: serde_json::Map<String, Value> =
            f.fields.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        json!({ "schema_name": f.schema_name, "fields": read, "broken": f.broken })
    });
    let headers: serde_json::Map<String, Value> =
        headers(letter).into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    json!({
        "letter": letter.name, "stage": dead.stage.as_str(), "reason": dead.reason.code(), "message": dead.message,
        "source": dead.source, "partition": dead.partition, "position": dead.position,
        "log_time": shown_time(dead.log_time.get()), "schema_id": schema.as_ref().map(|(id, _)| id),
        "key_text": text(&dead.key), "key_hex": hex(&dead.key), "value_text": text(&dead.value),
        "value_hex": hex(&dead.value), "headers": headers, "readable": fields, "replay": would,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_as_it_is_and_bytes_in_hexadecimal() {
        assert_eq!(dump(b"{\"a\": 1}\n"), "  {\"a\": 1}\n");
        let bytes = dump(&[0, 0, 0, 0, 1, b'a', 0xff]);
        assert_eq!(bytes.trim_end(), format!("  000000  {:<48} .....a.", "00 00 00 00 01 61 ff "));
        assert!(dump(&vec![b'x'; DUMPED_MAX + 7]).ends_with("and 7 bytes more"));
    }
}
