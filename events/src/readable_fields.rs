//! What of an Avro body can be read, up to where it breaks: for people who look at a dead letter.

use apache_avro::{Schema, from_avro_datum, types::Value};
use chrono::{DateTime, SecondsFormat};

/// Bytes of a value that are shown.
const SHOWN_MAX: usize = 80;

/// The fields of a body in the order of its writer's schema, each with its value as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadableFields {
    /// Full name of the record.
    pub schema_name: String,
    /// Name and value of each field that can be read.
    pub fields: Vec<(String, String)>,
    /// The first field that cannot be read, and why; or what follows the last field.
    pub broken: Option<String>,
}

/// Reads a body field by field.
///
/// # Errors
/// When the text is no schema of a record.
pub fn readable_fields(schema: &str, mut body: &[u8]) -> Result<ReadableFields, String> {
    let schema = Schema::parse_str(schema).map_err(|e| e.to_string())?;
    let Schema::Record(record) = &schema else { return Err("the schema is no record".to_owned()) };
    let mut readable = ReadableFields { schema_name: record.name.to_string(), ..ReadableFields::default() };
    for field in &record.fields {
        match from_avro_datum(&field.schema, &mut body, None) {
            Ok(value) => readable.fields.push((field.name.clone(), text(value))),
            Err(error) => {
                readable.broken = Some(format!("{}: {error}", field.name));
                return Ok(readable);
            }
        }
    }
    if !body.is_empty() {
        readable.broken = Some(format!("{} bytes are left after the last field", body.len()));
    }
    Ok(readable)
}

fn text(value: Value) -> String {
    match value {
        Value::Union(_, inner) => text(*inner),
        Value::Null => "null".to_owned(),
        Value::String(text) | Value::Enum(_, text) => format!("{:?}", text.chars().take(SHOWN_MAX).collect::<String>()),
        Value::Int(n) => n.to_string(),
        Value::Long(n) | Value::TimestampMicros(n) => n.to_string(),
        Value::TimestampMillis(n) => match DateTime::from_timestamp_millis(n) {
            Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
            None => format!("{n} ms"),
        },
        other => format!("{other:?}").chars().take(SHOWN_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type": "record", "name": "Thing", "namespace": "shop", "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": ["null", "int"]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}}]}"#;

    #[test]
    fn fields_are_read_up_to_the_one_that_breaks() {
        let body = b"\x04e1\x02\x06\x02";
        let whole = readable_fields(SCHEMA, body).unwrap();
        let fields = [("id", "\"e1\""), ("count", "3"), ("kind", "\"b\"")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!((whole.schema_name.as_str(), &whole.fields[..]), ("shop.Thing", &fields[..]));
        assert_eq!(whole.broken, None);
        let cut = readable_fields(SCHEMA, &body[..4]).unwrap();
        assert_eq!(cut.fields, fields[..1]);
        assert!(cut.broken.unwrap().starts_with("count: "));
        let unknown = readable_fields(SCHEMA, b"\x04e1\x02\x06\x20").unwrap();
        assert!(unknown.broken.unwrap().starts_with("kind: "));
        let longer = readable_fields(SCHEMA, b"\x04e1\x02\x06\x02zz").unwrap();
        assert_eq!(longer.broken.as_deref(), Some("2 bytes are left after the last field"));
        assert!(readable_fields("\"string\"", b"").is_err());
    }
}
