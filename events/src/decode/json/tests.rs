use crate::{
    Event, EventDecoder, EventFormat, EventTime, EventType, Money, Reason, Schemas,
    decode::tests::{decoder, event, framed, records},
    encode_event_json,
};
use arrow::array::{Array, AsArray};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

fn json_decoder() -> EventDecoder {
    EventDecoder::new("events", EventFormat::Json, Arc::new(Schemas::shipped()), 1 << 20)
}

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event_json(event, &mut out);
    out
}

/// Texts that are easy to get wrong: quotes, control characters, long and short, other planes of Unicode.
const TEXTS: [&str; 9] = [
    "x",
    "twelve bytes",
    "thirteen bytes",
    "a \"quoted\" and \\ slashed / text",
    "tab\t, line\n, bell\u{7}, nul\0",
    "é, 中文, 🛒, \u{2028}",
    " blanks around ",
    "null",
    "12.50",
];

fn any_event<'a>(rng: &mut ChaCha8Rng, id: &'a str) -> Event<'a> {
    let mut text = || rng.random_bool(0.7).then(|| *TEXTS.choose(rng).unwrap());
    let texts: [Option<&str>; 9] = std::array::from_fn(|_| text());
    let [customer_id, session_id, order_id, product_id, category, country, device, channel, currency] = texts;
    let extreme = 999_999_999_999_999_999;
    Event {
        event_id: id,
        event_type: *EventType::ALL.choose(rng).unwrap(),
        event_time: EventTime::new(match rng.random_range(0..4) {
            0 => rng.random_range(-62_135_596_800_000..0),
            1 => rng.random_range(0..100_000_000_000),
            2 => rng.random_range(0..=EventTime::LATEST.get()),
            _ => rng.random_range(1_700_000_000_000..1_800_000_000_000),
        }),
        customer_id,
        session_id,
        order_id,
        product_id,
        category,
        country,
        device,
        channel,
        quantity: if rng.random_bool(0.1) { rng.random() } else { rng.random_range(0..5) },
        unit_price: match rng.random_range(0..4) {
            0 => None,
            1 => Some(Money::from_units(rng.random_range(-extreme..=extreme))),
            2 => Some(Money::from_units(*[0, 1, -1, extreme, -extreme].choose(rng).unwrap())),
            _ => Some(Money::from_units(rng.random_range(0..10_000_000))),
        },
        currency,
    }
}

#[test]
fn the_same_events_come_out_of_avro_and_of_json() {
    for seed in 0..50 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ids: Vec<String> = (0..200).map(|i| format!("{}{i}", TEXTS[i % TEXTS.len()])).collect();
        let events: Vec<_> = ids.iter().map(|id| any_event(&mut rng, id)).collect();
        let avro: Vec<_> = events.iter().map(|e| Some(framed(e, 1))).collect();
        let json: Vec<_> = events.iter().map(|e| Some(encoded(e))).collect();
        let avro = decoder(Schemas::shipped()).decode(0, &records(&avro)).unwrap();
        let json = json_decoder().decode(0, &records(&json)).unwrap();
        assert!(json.dead_letters.is_empty(), "seed {seed}: {:?}", json.dead_letters);
        assert_eq!(json.events, avro.events, "seed {seed}");
        assert_eq!(json.record_of_row, avro.record_of_row);
        assert!(json.schema_ids.iter().all(|id| id == Some(0)));
    }
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_that_names_the_field_and_the_rest_goes_on() {
    let good = r#"{"event_id":"good","event_type":"page_view","event_time":"2024-03-01T10:00:00Z"}"#;
    let with = |field: &str| format!("{},{field}}}", &good[..good.len() - 1]).into_bytes();
    let without = |field: &str| good.replace(&format!("\"{field}\""), "\"unknown\"").into_bytes();
    type Case = (Option<Vec<u8>>, Option<Reason>, &'static str);
    let cases: [Case; 21] = [
        (Some(good.into()), None, ""),
        (None, Some(Reason::EmptyValue), ""),
        (Some(vec![]), Some(Reason::EmptyValue), ""),
        (Some(b" ".to_vec()), Some(Reason::BadJson), ""),
        (Some(framed(&event("avro"), 1)), Some(Reason::BadJson), "as Avro"),
        (Some(good[..good.len() - 1].into()), Some(Reason::BadJson), ""),
        (Some(format!("[{good}]").into()), Some(Reason::BadJson), ""),
        (Some(format!("{good}\n{good}").into()), Some(Reason::BadJson), ""),
        (Some(with(r#""device":"\ud800""#)), Some(Reason::BadEncoding), "'device'"),
        (
            Some(with("\"device\":\"\u{e9}\"").into_iter().filter(|b| *b != 0xa9).collect()),
            Some(Reason::BadEncoding),
            "",
        ),
        (Some(with(r#""device":{"name":"phone"}"#)), Some(Reason::BadField), "'device'"),
        (Some(with(r#""quantity":1.5"#)), Some(Reason::BadField), "'quantity'"),
        (Some(with(r#""quantity":1e99999999999"#)), Some(Reason::BadField), "'quantity'"),
        (Some(with(r#""unit_price":"cheap""#)), Some(Reason::BadField), "'unit_price'"),
        (Some(with(r#""unit_price":0.00001"#)), Some(Reason::PriceOutOfRange), "'unit_price'"),
        (Some(without("event_id")), Some(Reason::MissingField), "'event_id'"),
        (Some(without("event_type")), Some(Reason::MissingField), "'event_type'"),
        (Some(good.replace("page_view", "teleport").into()), Some(Reason::UnknownEventType), "'event_type'"),
        (Some(good.replace("2024", "20x4").into()), Some(Reason::BadTime), "'event_time'"),
        (Some(vec![b' '; 2_000_000]), Some(Reason::TooLarge), ""),
        (Some(good.replace("good", "last").into()), None, ""),
    ];
    let values: Vec<_> = cases.iter().map(|(value, ..)| value.clone()).collect();
    let decoded = json_decoder().decode(3, &records(&values)).unwrap();
    let refused = || cases.iter().zip(100_i64..).filter(|((_, reason, _), _)| reason.is_some());
    let expected: Vec<_> = refused().map(|((_, reason, _), at)| (at, reason.unwrap())).collect();
    assert_eq!(decoded.dead_letters.iter().map(|l| (l.position, l.reason)).collect::<Vec<_>>(), expected);
    for (letter, ((value, _, names), _)) in decoded.dead_letters.iter().zip(refused()) {
        assert!(letter.message.contains(names), "{}", letter.message);
        assert_eq!((&letter.value, letter.partition, letter.source.as_str()), (value, Some(3), "events"));
    }
    assert_eq!(decoded.record_of_row, [0, 20]);
    let ids = decoded.events.column_by_name("event_id").unwrap().as_string_view();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["good", "last"]);
}

#[test]
fn keys_that_come_go_move_and_change_their_type_are_read_as_they_were_meant() {
    let plain =
        |fields: &str| format!(r#"{{"event_id":"e","event_type":"purchase","event_time":1732881600123{fields}}}"#);
    let full = plain(r#","customer_id":"17","quantity":2,"unit_price":19.9,"currency":"EUR""#);
    let same = [
        // Added, of whatever type.
        full.replace('}', r#","coupon":null,"points":7,"basket":[{"customer_id":"other","x":[true]}],"gift":{"quantity":9}}"#),
        // Moved.
        r#"{"currency":"EUR","unit_price":19.9,"event_time":1732881600123,"quantity":2,"customer_id":"17","event_type":"purchase","event_id":"e"}"#.to_owned(),
        // A number for a text and the other way round, and numbers written in other ways.
        full.replace(r#""17""#, "17").replace(":2,", r#":"2","#).replace("19.9", r#""19.90""#),
        full.replace(":2,", ":2.0,").replace("19.9", "19.9000"),
        full.replace("1732881600123", r#""1732881600123""#),
        full.replace("1732881600123", r#""2024-11-29T12:00:00.123Z""#),
        full.replace("1732881600123", r#""2024-11-29T13:00:00.123456+01:00""#),
        // Said to be nothing.
        full.replace('}', r#","device":null,"channel":""}"#),
    ];
    let decoded = |value: &str| json_decoder().decode(0, &records(&[Some(value.into())])).unwrap();
    let events = decoded(&full).events;
    assert_eq!(events.num_rows(), 1);
    for value in &same {
        assert_eq!(decoded(value).events, events, "{value}");
    }
    // Removed or renamed: null; a quantity is 1 but for what fills or pays a cart.
    let view = plain("").replace("purchase", "page_view");
    let few = decoded(&view).events;
    assert_eq!(few.columns()[3..11].iter().chain(&few.columns()[12..]).filter(|c| c.null_count() == 0).count(), 0);
    assert_eq!(decoded(&view.replace('}', r#","quantity":1,"client_id":"17"}"#)).events, few);
    for (value, reason) in [
        (plain(""), Reason::MissingField),
        (full.replace("event_id", "id"), Reason::MissingField),
        (full.replace(r#""e""#, "null"), Reason::MissingField),
        (full.replace("event_time", "at"), Reason::MissingField),
        (full.replace(":2,", ":true,"), Reason::BadField),
        (full.replace(r#""17""#, r#"{"id":17}"#), Reason::BadField),
        (full.replace("19.9", "[19.9]"), Reason::BadField),
    ] {
        let letters = decoded(&value).dead_letters;
        assert_eq!(letters.iter().map(|l| l.reason).collect::<Vec<_>>(), [reason], "{value}");
    }
}

/// What a shop's own code, or a bad disk, may put into a value.
fn damage(value: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    const PIECES: [&[u8]; 16] = [
        b"\"",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\ud83d\\ude00",
        b"{",
        b"}",
        b"[",
        b",",
        b":",
        b"null",
        b"-",
        b"1e308",
        b"\xff",
        b"\xc3",
        b"9999999999999999999999999999",
    ];
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=value.len());
        match rng.random_range(0..5) {
            0 => value.truncate(at),
            1 => drop(value.drain(at..(at + rng.random_range(0..9)).min(value.len()))),
            2 if at < value.len() => value[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let piece = value[at..(at + rng.random_range(0..40)).min(value.len())].to_vec();
                let to = rng.random_range(0..=value.len());
                value.splice(to..to, piece);
            }
            _ => drop(value.splice(at..at, PIECES.choose(rng).unwrap().iter().copied())),
        }
    }
}

#[test]
fn no_damage_stops_the_stream_or_reaches_another_record() {
    let mut rows = 0;
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = Vec::new();
        for _ in 0..500 {
            let good = encoded(&any_event(&mut rng, "good"));
            let mut damaged = good.clone();
            damage(&mut damaged, &mut rng);
            values.extend([Some(good), Some(damaged)]);
        }
        let decoded = json_decoder().decode(0, &records(&values)).unwrap();
        assert_eq!(decoded.events.num_rows() + decoded.dead_letters.len(), values.len(), "seed {seed}");
        let undamaged: Vec<u32> = decoded.record_of_row.iter().copied().filter(|record| record % 2 == 0).collect();
        assert_eq!(undamaged, (0..1_000).step_by(2).collect::<Vec<u32>>(), "seed {seed}");
        rows += decoded.events.num_rows() - undamaged.len();
    }
    assert!((100..15_000).contains(&rows), "{rows} of 20,000 damaged values are events all the same");
}

#[test]
fn a_value_of_nothing_but_brackets_is_refused_not_followed() {
    let good = String::from_utf8(encoded(&event("good"))).unwrap();
    let deep = "[".repeat(500_000);
    let values = ["unknown", "device"].map(|key| Some(format!("{},\"{key}\":{deep}", &good[..good.len() - 1]).into()));
    let decoded = json_decoder().decode(0, &records(&values)).unwrap();
    assert!(decoded.dead_letters.iter().all(|letter| letter.reason == Reason::BadJson));
    assert_eq!(decoded.dead_letters.len(), 2);
}
