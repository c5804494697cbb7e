//! What becomes of records that were written with other schemas than ours.
//!
//! Each folder of `tests/golden/evolution` is one: `<schema id>-<what is different>` with
//!
//! - `writer.avsc`: the schema it was written with,
//! - `written.ndjson`: what was written, one value a line; a decimal is a text, `{"hex": …}` is bytes that are no text,
//! - `records.hex`: the old file: the records as apache-avro wrote them, one a line, framed,
//! - `expected.ndjson`: what is to become of each record: the columns that are not null, or the dead letter.
//!
//! For a new one make a folder with the first two files, run `SLUICE_WRITE_GOLDEN=1 cargo test -p sluice-events --test evolution`
//! and read what it wrote into the last two. Files that are there are never written again: delete one to have it anew.

mod decoded;
mod fake_registry;
mod golden;
mod written;

use decoded::{fates, records};
use fake_registry::{RequestLog, registry};
use golden::{Golden, all};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sluice_events::{EventDecoder, EventFormat, Reason, Schemas};
use std::sync::Arc;

fn schemas(cases: &[Golden]) -> (Arc<Schemas>, RequestLog) {
    let (config, asked) = registry(cases.iter().map(|case| (case.id, case.writer.clone())).collect());
    (Arc::new(Schemas::open(&config, |subject| Some(format!("{subject:?}"))).unwrap()), asked)
}

fn decoder(schemas: &Arc<Schemas>) -> EventDecoder {
    EventDecoder::new("events", EventFormat::Avro, schemas.clone(), 1 << 20)
}

#[test]
fn old_files_are_read_as_they_were_meant_or_refused() {
    let cases = all();
    assert!(cases.len() > 40, "{} cases", cases.len());
    let (schemas, _) = schemas(cases);
    for case in cases {
        let decoded = decoder(&schemas).decode(0, &records(&case.records)).unwrap();
        case.compare(&fates(&decoded, case.records.len()));
    }
}

#[test]
fn records_of_all_schemas_in_one_batch_do_not_touch_one_another() {
    let cases = all();
    let (schemas, asked) = schemas(cases);
    let mut decoder = decoder(&schemas);
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut all: Vec<(&Vec<u8>, &Value)> =
            cases.iter().flat_map(|case| case.records.iter().zip(&case.expected)).collect();
        all.shuffle(&mut rng);
        let (values, expected): (Vec<Vec<u8>>, Vec<Value>) =
            all.into_iter().map(|(record, fate)| (record.clone(), fate.clone())).unzip();
        let decoded = decoder.decode(0, &records(&values)).unwrap();
        assert_eq!(fates(&decoded, values.len()), expected, "seed {seed}");
    }
    for case in cases {
        let path = format!("GET /schemas/ids/{}", case.id);
        assert_eq!(asked.lock().unwrap().iter().filter(|asked| **asked == path).count(), 1, "{path}");
    }
}

#[test]
fn each_incompatible_schema_is_told_once_by_one_decoder() {
    let cases = all();
    let (schemas, _) = schemas(cases);
    let (mut first, mut second) = (decoder(&schemas), decoder(&schemas));
    let values: Vec<Vec<u8>> = cases.iter().flat_map(|case| case.records.clone()).collect();
    let letters = first.decode(0, &records(&values)).unwrap().dead_letters;
    let told = first.take_incompatible_schemas();
    let ids: Vec<u32> = told.iter().map(|schema| schema.id).collect();
    let expected: Vec<u32> = cases.iter().filter(|case| case.is_incompatible()).map(|case| case.id).collect();
    assert_eq!(ids, expected);
    for schema in &told {
        let message = format!("schema id {}: {}", schema.id, schema.reason);
        assert!(letters.iter().any(|l| l.reason == Reason::IncompatibleSchema && l.message == message), "{message}");
    }
    assert_eq!(second.decode(1, &records(&values)).unwrap().dead_letters.len(), letters.len());
    first.decode(0, &records(&values)).unwrap();
    assert!(first.take_incompatible_schemas().is_empty() && second.take_incompatible_schemas().is_empty());
}
