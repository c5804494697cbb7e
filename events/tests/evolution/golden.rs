//! The folders of `tests/golden/evolution`.

use super::{
    decoded::{fates, records as framed},
    decoder, schemas,
    written::record_of,
};
use apache_avro::Schema;
use serde_json::Value;
use std::{fs, path::PathBuf, sync::LazyLock};

pub struct Golden {
    pub id: u32,
    pub writer: String,
    /// Framed.
    pub records: Vec<Vec<u8>>,
    /// What becomes of each.
    pub expected: Vec<Value>,
    folder: PathBuf,
}

/// All cases by id. Makes the files that are missing when it is told to.
pub fn all() -> &'static [Golden] {
    static CASES: LazyLock<Vec<Golden>> = LazyLock::new(|| {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/evolution"));
        let mut cases: Vec<Golden> = fs::read_dir(root).unwrap().map(|entry| read(entry.unwrap().path())).collect();
        cases.sort_unstable_by_key(|case| case.id);
        for pair in cases.windows(2) {
            assert_ne!(pair[0].id, pair[1].id, "{:?} and {:?}", pair[0].folder, pair[1].folder);
        }
        cases
    });
    &CASES
}

fn read(folder: PathBuf) -> Golden {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let id: u32 = name.split('-').next().unwrap().parse().expect("a folder's name begins with the schema's id");
    let writer = fs::read_to_string(folder.join("writer.avsc")).unwrap();
    let write = std::env::var_os("SLUICE_WRITE_GOLDEN").is_some();
    let file = folder.join("records.hex");
    if write && !file.exists() {
        let mut json: Value = serde_json::from_str(&writer).unwrap();
        for field in json["fields"].as_array_mut().into_iter().flatten() {
            // The library does not take two equal ones, and they change no byte.
            field.as_object_mut().unwrap().remove("aliases");
        }
        let schema = Schema::parse(&json).unwrap();
        let written = fs::read_to_string(folder.join("written.ndjson")).unwrap();
        let hex = |line: &str| hex_of(&record_of(id, &schema, &serde_json::from_str(line).unwrap())) + "\n";
        fs::write(&file, written.lines().map(hex).collect::<String>()).unwrap();
    }
    let records: Vec<Vec<u8>> = fs::read_to_string(&file).unwrap().lines().map(bytes_of).collect();
    assert!(records.iter().all(|record| record[1..5] == id.to_be_bytes()), "{folder:?}: records of another schema");
    let mut case = Golden { id, writer, records, expected: Vec::new(), folder };
    let file = case.folder.join("expected.ndjson");
    if write && !file.exists() {
        let (schemas, _) = schemas(std::slice::from_ref(&case));
        let decoded = decoder(&schemas).decode(0, &framed(&case.records)).unwrap();
        let lines = fates(&decoded, case.records.len()).iter().map(|fate| format!("{fate}\n")).collect::<String>();
        fs::write(&file, lines).unwrap();
    }
    case.expected =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(case.expected.len(), case.records.len(), "{:?}", case.folder);
    case
}

impl Golden {
    pub fn compare(&self, found: &[Value]) {
        assert_eq!(found, self.expected, "{:?}", self.folder);
    }

    pub fn is_incompatible(&self) -> bool {
        self.expected.iter().all(|fate| fate["dead_letter"] == "incompatible_schema")
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that a line of hexadecimal digits is.
pub fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
