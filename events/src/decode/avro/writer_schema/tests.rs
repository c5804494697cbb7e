use super::*;
use crate::{
    DecodeError, EventDecoder, EventFormat, Reason, Schemas, Subject,
    decode::tests::{decoder, event, framed, records},
};
use arrow::array::AsArray;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

fn ours() -> Value {
    serde_json::from_str(&Schemas::shipped().subject(Subject::Events).text).unwrap()
}

fn parsed(schema: &Value) -> Result<WriterSchema, String> {
    WriterSchema::of_event(&schema.to_string(), &Schema::parse(&ours()).unwrap())
}

/// Three columns, and one more of a type.
fn with(name: &str, schema: Value) -> Value {
    let mut json = ours();
    let fields = json["fields"].as_array_mut().unwrap();
    fields.truncate(3);
    fields.push(json!({ "name": name, "type": schema }));
    json
}

/// A value of the schema with the id 9, that ends with these bytes after the three columns.
fn value(last: &[u8]) -> Vec<u8> {
    let mut value = vec![0, 0, 0, 0, 9, 2, b'e', 0, 2];
    value.extend(last);
    value
}

fn decoded(schema: &Value, values: &[Vec<u8>]) -> crate::Decoded {
    let schemas = Schemas::shipped();
    schemas.remember_for_test(9, &schema.to_string());
    decoder(schemas).decode(0, &records(&values.iter().cloned().map(Some).collect::<Vec<_>>())).unwrap()
}

#[test]
fn an_alias_of_ours_is_a_name_too() {
    let mut json = ours();
    json["aliases"] = json!(["shop.Click"]);
    json["fields"][0]["aliases"] = json!(["id"]);
    let renamed = Schema::parse(&json).unwrap();
    let mut old = ours();
    old["name"] = json!("Click");
    old["fields"][0]["name"] = json!("id");
    assert!(WriterSchema::of_event(&old.to_string(), &renamed).is_ok());
    assert!(parsed(&old).is_err());
}

#[test]
fn what_does_not_change_the_bytes_does_not_matter() {
    let good = value(&[0]);
    for column in [
        json!({ "name": "x", "type": ["null", "string"], "default": 7 }),
        json!({ "name": "x", "type": ["null", "string"], "default": null, "aliases": ["y"], "doc": 5, "order": "ignore" }),
        json!({ "name": "x", "type": ["null", { "type": "string", "logicalType": 8 }] }),
        json!({ "name": "x", "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 1, "scale": 9 }] }),
        json!({ "name": "x", "type": ["null", { "type": "string", "avro.java.string": "String" }] }),
    ] {
        let mut schema = with("x", json!("null"));
        schema["fields"][3] = column;
        assert_eq!(decoded(&schema, std::slice::from_ref(&good)).events.num_rows(), 1, "{schema}");
    }
}

#[test]
fn an_id_of_sixteen_bytes_is_passed_over_and_is_no_text() {
    let uuid = json!({ "type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid" });
    let bytes = value(&[0xff; 16]);
    assert_eq!(decoded(&with("trace", uuid.clone()), std::slice::from_ref(&bytes)).events.num_rows(), 1);
    let letters = decoded(&with("customer_id", uuid), &[bytes]).dead_letters;
    assert_eq!(letters[0].reason, Reason::IncompatibleSchema);
    assert!(letters[0].message.starts_with("schema id 9: column 'customer_id': "), "{}", letters[0].message);
}

#[test]
fn a_type_that_names_itself_ends_somewhere() {
    let list = json!({ "type": "record", "name": "List", "fields": [{ "name": "next", "type": ["null", "List"] }] });
    let depths = |n: usize| value(&[[2].repeat(n), vec![0]].concat());
    let decoded = decoded(&with("list", list), &[depths(3), depths(100_000), depths(5)]);
    assert_eq!(decoded.record_of_row, [0, 2]);
    assert_eq!(decoded.dead_letters[0].reason, Reason::Malformed);
}

#[test]
fn types_without_bytes_take_no_time() {
    let mut inner = json!({ "type": "record", "name": "R0", "fields": [] });
    for i in 1..40 {
        let fields = [json!({ "name": "a", "type": inner }), json!({ "name": "b", "type": format!("R{}", i - 1) })];
        inner = json!({ "type": "record", "name": format!("R{i}"), "fields": fields });
    }
    let array = json!({ "type": "array", "items": inner });
    // An array of as many of them as a number can say.
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
    assert_eq!(decoded(&with("nothings", array), &[value(&many)]).events.num_rows(), 1);
}

/// Any change to a schema, sensible or not.
fn change(json: &mut Value, rng: &mut ChaCha8Rng) {
    let types = [
        json!("null"),
        json!("int"),
        json!("long"),
        json!("double"),
        json!("string"),
        json!("bytes"),
        json!("EventType"),
        json!("Event"),
        json!(["null", "string"]),
        json!(["bytes", "null"]),
        json!(["null"]),
        json!([]),
        json!({ "type": "array", "items": "Event" }),
        json!({ "type": "map", "values": ["null", "int"] }),
        json!({ "type": "enum", "name": "X", "symbols": ["refund", "purchase"] }),
        json!({ "type": "fixed", "name": "Y", "size": 3, "logicalType": "decimal", "precision": 5, "scale": 2 }),
        json!({ "type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 38 }),
        json!({ "type": "long", "logicalType": "timestamp-nanos" }),
        json!(7),
    ];
    match json {
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields.keys().nth(rng.random_range(0..fields.len())).unwrap().clone();
            match rng.random_range(0..12) {
                0 => drop(fields.remove(&key)),
                1 | 2 if key == "type" => fields["type"] = types.choose(rng).unwrap().clone(),
                _ => change(&mut fields[&key], rng),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            match rng.random_range(0..12) {
                0 => drop(items.remove(at)),
                1 => items.rotate_left(at),
                2 => items.push(items[at].clone()),
                _ => change(&mut items[at], rng),
            }
        }
        other if rng.random_bool(0.4) => *other = types.choose(rng).unwrap().clone(),
        Value::String(text) => text.push('x'),
        _ => {}
    }
}

#[test]
fn no_schema_and_no_body_stops_the_stream() {
    let mut read = 0;
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut schema = ours();
        for _ in 0..rng.random_range(1..6) {
            change(&mut schema, &mut rng);
        }
        let schemas = Arc::new(Schemas::shipped());
        schemas.remember_for_test(9, &schema.to_string());
        let mut values = vec![Some(framed(&event("good"), 1))];
        for _ in 0..40 {
            let mut value = framed(&event("e"), 9);
            for _ in 0..rng.random_range(0..4) {
                let at = rng.random_range(5..value.len());
                match rng.random_range(0..3) {
                    0 => value[at] = rng.random(),
                    1 => value.insert(at, *[0, 2, 4].choose(&mut rng).unwrap()),
                    _ => drop(value.remove(at)),
                }
            }
            values.push(Some(value));
        }
        let mut decoder = EventDecoder::new("events", EventFormat::Avro, schemas, 1 << 20);
        let decoded: Result<_, DecodeError> = decoder.decode(0, &records(&values));
        let decoded = decoded.unwrap_or_else(|e| panic!("seed {seed}: {e}: {schema}"));
        assert_eq!(decoded.events.num_rows() + decoded.dead_letters.len(), values.len(), "seed {seed}");
        let ids = decoded.events.column_by_name("event_id").unwrap().as_string_view();
        assert_eq!((decoded.record_of_row[0], ids.value(0)), (0, "good"), "seed {seed}");
        read += decoded.events.num_rows() - 1;
    }
    assert!(read > 200, "{read} records of changed schemas were events");
}
