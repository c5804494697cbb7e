//! Files as shops deliver them, each with one thing wrong.

use crate::support::{NOW, achats, clients, input, whole};
use flate2::{Compression, write::GzEncoder};
use sluice_batch_inputs::{AchatsReader, IdSet, LoadError};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};

const HEADER: &str = "id_achat,id_client,date_achat,montant,produit\n";

fn with_header(rows: &str) -> Vec<u8> {
    format!("{HEADER}{rows}").into_bytes()
}

/// The silver orders without file and line.
fn orders(bytes: &[u8]) -> Vec<String> {
    let rows = achats(bytes).unwrap().silver;
    rows.iter().map(|row| row.split("|achats.csv|").next().unwrap().to_owned()).collect()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rows_become_bronze_and_silver() {
    let bytes = with_header("a1, c1 ,2024-01-02 03:04:05,\" 1 234,50 € \",\"a \"\"b\"\"\nc\"\n\na2,c2,45292,7,CD\n");
    let whole = achats(&bytes).unwrap();
    let hash = input("", &bytes).hash.to_string();
    assert_eq!(
        whole.bronze,
        [
            format!(
                "a1| c1 |2024-01-02 03:04:05| 1 234,50 € |a \"b\"\nc|a1, c1 ,2024-01-02 03:04:05,\" 1 234,50 € \",\"a \"\"b\"\"\nc\"\
                 |achats.csv|2|{hash}|2024-03-01 12:00:00"
            ),
            format!("a2|c2|45292|7|CD|a2,c2,45292,7,CD|achats.csv|5|{hash}|2024-03-01 12:00:00"),
        ]
    );
    assert_eq!(
        whole.silver,
        [
            "a1|c1|2024-01-02 03:04:05|1234.5000|a \"b\"\nc|achats.csv|2",
            "a2|c2|2024-01-01 00:00:00|7.0000|CD|achats.csv|5"
        ]
    );
    assert_eq!((whole.summary.records, whole.summary.blank_lines), (3, 1));
}

#[test]
fn each_refusal_has_its_reason_names_its_column_and_keeps_the_record() {
    let rows = [
        (",c1,2024-01-01,5,CD", "missing_field", "id_achat"),
        ("a,  ,2024-01-01,5,CD", "missing_field", "id_client"),
        ("a,c1,,5,CD", "missing_field", "date_achat"),
        ("a,c1,2024-01-01,\u{a0},CD", "missing_field", "montant"),
        ("a,c1,2024-01-01,5,", "missing_field", "produit"),
        ("a,c1,12/31/2023,5,CD", "bad_date", "'12/31/2023'"),
        ("a,c1,1979-12-31,5,CD", "before_1980", "date_achat"),
        ("a,c1,2024-03-03,5,CD", "future", "date_achat"),
        ("a,c1,2024-01-01,NaN,CD", "bad_amount", "'NaN'"),
        ("a,c1,2024-01-01,\"1,234\",CD", "ambiguous_amount", "'1,234'"),
        ("a,c1,2024-01-01,-5,CD", "amount_not_positive", "montant"),
        ("a,c1,2024-01-01,1000000000,CD", "amount_out_of_range", "montant"),
        ("a,c1,2024-01-01,1.00001,CD", "amount_out_of_range", "montant"),
        ("a,C1,2024-01-01,5,CD", "unknown_customer", "'C1'"),
        ("a,c1,2024-01-01,12,50,CD", "bad_csv", "6 columns, the header 5"),
        ("a,c1,2024-01-01,5", "bad_csv", "4 columns"),
        ("a,c1,2024-01-01,5,\"CD", "bad_csv", "quote"),
    ];
    let text: String = rows.iter().map(|(row, ..)| format!("{row}\n")).collect();
    let whole = achats(&with_header(&format!("{text}a,c1,2024-01-01,5,CD"))).unwrap();
    assert_eq!(whole.dead_letters.len(), rows.len());
    for (at, (letter, (row, reason, shown))) in whole.dead_letters.iter().zip(rows).enumerate() {
        assert_eq!((letter.reason.code(), letter.position), (reason, at as i64 + 2), "{row}");
        assert!(letter.message.contains(shown), "{}", letter.message);
        assert_eq!(letter.value.as_deref(), Some(row.as_bytes()));
        assert_eq!((letter.source.as_str(), letter.stage.as_str(), letter.log_time), ("achats.csv", "load", NOW));
    }
    // Those that were refused do not take the id away from the one that is good.
    assert_eq!(whole.silver, ["a|c1|2024-01-01 00:00:00|5.0000|CD|achats.csv|19"]);
}

#[test]
fn the_first_good_row_of_an_id_wins_and_later_ones_are_duplicates() {
    let whole = achats(&with_header(
        "a1,c1,2024-01-01,0,CD\na1,c1,2024-01-01,5,first\na1,c1,2024-01-01,6,second\na1,c1,bad,6,CD\nA1,c1,2024-01-01,5,first\n\
         a1,c1,2024-01-01,5,first\n",
    ))
    .unwrap();
    assert_eq!(whole.silver.len(), 2);
    assert!(whole.silver[0].contains("|first|") && whole.silver[1].starts_with("A1|"));
    assert_eq!((whole.summary.duplicates, whole.summary.dead_letters), (2, 2));
    assert_eq!(whole.check("uniqueness.id_achat"), (2, 6));
    assert_eq!(whole.check("uniqueness.row"), (5, 6));
    assert_eq!(whole.check("validity.montant_positive"), (5, 6));
    assert_eq!(whole.check("validity.date_achat"), (5, 6));
}

#[test]
fn what_an_earlier_file_brought_is_a_duplicate() {
    let bytes = with_header("a1,c1,2024-01-01,5,CD\na2,c1,2024-01-01,5,CD\na1,c1,2024-01-01,0,CD\n");
    let ids = |ids: &[&'static str]| Arc::new(ids.iter().copied().collect::<IdSet>());
    let reader = AchatsReader::new(&bytes[..], input("achats.csv", &bytes), ids(&["c1"])).unwrap();
    let whole = whole(reader.with_earlier_ids(ids(&["a1", "a0"])), 10).unwrap();
    assert_eq!((whole.silver.len(), whole.summary.duplicates, whole.summary.dead_letters), (1, 1, 1));
    assert_eq!(whole.check("uniqueness.id_achat"), (2, 3));
}

#[test]
fn any_encoding_gives_the_same_orders() {
    let text = format!("{HEADER}a1,c1,2024-01-01,12.50 €,Café\na2,c2,2024-01-01,5,Thé\n");
    let expected = orders(text.as_bytes());
    assert!(expected[0].ends_with("|12.5000|Café"));
    let utf16 = |mark: bool, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.then_some(0xfeff).into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    let (windows_1252, ..) = encoding_rs::WINDOWS_1252.encode(&text);
    for bytes in [
        format!("\u{feff}{text}").into_bytes(),
        utf16(true, u16::to_le_bytes),
        utf16(true, u16::to_be_bytes),
        utf16(false, u16::to_le_bytes),
        utf16(false, u16::to_be_bytes),
        windows_1252.to_vec(),
        text.replace('\n', "\r\n").into_bytes(),
        text.replace('\n', "\r").into_bytes(),
        text.replace(',', ";").into_bytes(),
        text.replace(',', "\t").into_bytes(),
        packed(text.as_bytes()),
        packed(&utf16(true, u16::to_le_bytes)),
    ] {
        assert_eq!(orders(&bytes), expected, "{:?}", &bytes[..12]);
    }
    assert_eq!(achats(&windows_1252).unwrap().summary.windows_1252, Some((2, 2)));
    assert_eq!(achats(text.as_bytes()).unwrap().summary.windows_1252, None);
    // One record of another origin does not spoil the rest.
    let mixed = [text.as_bytes(), b"a3,c3,2024-01-01,5,Caf\xe9\n"].concat();
    let whole = achats(&mixed).unwrap();
    assert!(whole.silver[0].contains("|Café|") && whole.silver[2].contains("|Café|"));
    assert_eq!(whole.summary.windows_1252, Some((1, 4)));
}

#[test]
fn columns_may_be_reordered_and_others_added() {
    let bytes = b"Produit;Note;MONTANT; id_client ;date_achat;id_achat\nCD;hello;12,50;c1;01/02/2024;a1\n";
    let whole = achats(bytes).unwrap();
    assert_eq!(whole.silver, ["a1|c1|2024-02-01 00:00:00|12.5000|CD|achats.csv|2"]);
    assert!(whole.bronze[0].starts_with("a1|c1|01/02/2024|12,50|CD|CD;hello;12,50;c1;01/02/2024;a1|"));
}

#[test]
fn an_empty_file_is_an_error_and_a_header_alone_is_not() {
    assert!(matches!(achats(b""), Err(LoadError::Empty { .. })));
    assert!(matches!(achats(&packed(b"")), Err(LoadError::Empty { .. })));
    for bytes in [HEADER.as_bytes(), HEADER.trim_end().as_bytes()] {
        let whole = achats(bytes).unwrap();
        assert_eq!((whole.bronze.len(), whole.summary.records), (0, 0));
        assert_eq!(whole.check("completeness.montant"), (0, 0));
        assert_eq!(whole.quality[0].ratio(), None);
    }
    let blank = achats(format!("\n{HEADER}\n \r\n").as_bytes()).unwrap();
    assert_eq!((blank.summary.blank_lines, blank.summary.records), (3, 3));
}

#[test]
fn a_last_line_that_is_cut_is_a_dead_letter_and_the_rest_is_kept() {
    for (cut, reason) in [("a2,c2,2024-01", "bad_csv"), ("a2,c2,2024-01-01,5,\"C", "bad_csv"), ("\"a2", "bad_csv")] {
        let whole = achats(&with_header(&format!("a1,c1,2024-01-01,5,CD\n{cut}"))).unwrap();
        assert_eq!((whole.silver.len(), whole.refused()), (1, vec![(3, reason)]), "{cut}");
    }
}

#[test]
fn a_stray_quote_costs_its_own_line() {
    let rows =
        "a1,c1,2024-01-01,5,\"CD\na2,c2,2024-01-01,5,CD\na3,c3,2024-01-01,5,\"DVD\"\na4,c4,2024-01-01,5,12\" vinyl\n";
    let whole = achats(&with_header(rows)).unwrap();
    assert_eq!(whole.refused(), [(2, "bad_csv")]);
    assert_eq!(whole.silver.len(), 3);
}

#[test]
fn a_cut_gzip_file_gives_what_came_and_says_so() {
    let rows: String =
        (0..5_000).map(|n| format!("a{n},c{},2024-01-01,{n}.50,Product {}\n", n % 9 + 1, n * 7919 % 1009)).collect();
    let all = with_header(&rows);
    let gzip = packed(&all);
    for length in [gzip.len() / 3, gzip.len() / 2, gzip.len() - 9, gzip.len() - 1] {
        let whole = achats(&gzip[..length]).unwrap();
        assert!(whole.summary.cut.as_deref().is_some_and(|c| c.contains("gzip")), "{length}");
        let came = whole.summary.accepted as usize;
        assert!(came > 1000 && whole.dead_letters.len() <= 1, "{length}: {:?}", whole.summary);
        assert!(whole.dead_letters.iter().all(|l| l.reason.code() == "truncated_file"));
        assert_eq!(whole.silver, achats(&all).unwrap().silver[..came]);
    }
    let told = achats(&gzip[..20]).unwrap_err();
    assert!(matches!(told, LoadError::Unpack { .. }) && told.to_string().contains("achats.csv"), "{told}");
    // Damage in the middle, too, leaves what came before it.
    let mut damaged = gzip;
    let at = damaged.len() / 2;
    damaged[at..at + 40].fill(0xff);
    assert!(achats(&damaged).unwrap().summary.cut.is_some());
}

#[test]
fn nul_bytes_and_huge_fields_hurt_nobody_else() {
    let huge = "x".repeat(2_000_000);
    let rows = format!(
        "a1,c1,2024-01-01,5,\0\n\0\0\0\na2,c2,2024-01-01,5,{huge}\na3,c3,2024-01-01,5,CD\na\04,c4,2024-01-01,5\0,CD\n\"{huge}\n\
         a5,c5,2024-01-01,5,\"CD\"\n"
    );
    let whole = achats(&with_header(&rows)).unwrap();
    assert_eq!(whole.refused(), [(3, "bad_csv"), (4, "value_too_large"), (6, "bad_amount"), (7, "value_too_large")]);
    assert_eq!(whole.silver.len(), 3);
    assert!(whole.dead_letters.iter().all(|l| l.value.as_ref().unwrap().len() <= 1024 * 1024));
}

#[test]
fn an_input_that_fails_is_an_error_and_a_file_that_changes_too() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let bytes = with_header("a1,c1,2024-01-01,5,CD\n");
    let known = Arc::new(["c1"].into_iter().collect::<IdSet>());
    let reader = AchatsReader::new(bytes.chain(Fails), input("achats.csv", &bytes), known.clone()).unwrap();
    assert!(matches!(whole(reader, 10), Err(LoadError::Read { .. })));
    let other = with_header("a1,c1,2024-01-01,6,CD\n");
    let reader = AchatsReader::new(&other[..], input("achats.csv", &bytes), known).unwrap();
    assert!(matches!(whole(reader, 10), Err(LoadError::Changed { .. })));
}

#[test]
fn customers_are_cleaned_and_only_one_without_an_id_is_refused() {
    let whole = clients(
        "id_client,nom,email,date_inscription,pays\n\
         01, Ada ,ADA@Example.COM,2023-05-06T23:30:00-02:00,Etats-Unis\n\
         02,,nobody,31/31/2023,Atlantis\n\
         ,Zoé,zoe@example.com,2023-01-01,FR\n\
         01,Ada again,a@b.fr,2023-01-01,fr\n\
         1,Élodie,,,\n\
         03,Bob,b@example.org,2050-01-01,gbr\n"
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(
        whole.silver,
        [
            "01|Ada|ada@example.com|2023-05-07|USA|clients.csv|2",
            "02|∅|∅|∅|unknown|clients.csv|3",
            "1|Élodie|∅|∅|unknown|clients.csv|6",
            "03|Bob|b@example.org|∅|United Kingdom|clients.csv|7",
        ]
    );
    assert_eq!((whole.refused(), whole.summary.duplicates), (vec![(4, "missing_field")], 1));
    let names: Vec<&str> = whole.quality.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "completeness.id_client",
            "completeness.nom",
            "completeness.email",
            "completeness.date_inscription",
            "completeness.pays",
            "uniqueness.id_client",
            "uniqueness.row",
            "validity.email",
            "validity.date_inscription",
            "validity.pays"
        ]
    );
    let passed: Vec<u64> = whole.quality.iter().map(|c| c.passed).collect();
    assert_eq!(passed, [5, 5, 5, 5, 5, 4, 6, 4, 3, 4]);
}
