use super::*;
use crate::{Event, EventTime, EventType, LogTime, Money, Offset, RecordBuffer, ValidationRules, encode_event};
use arrow::{array::AsArray, datatypes::Decimal128Type};

fn event(id: &str) -> Event<'_> {
    Event {
        event_id: id,
        event_type: EventType::Purchase,
        event_time: EventTime::new(1_700_000_000_000),
        customer_id: Some("c"),
        session_id: None,
        order_id: Some("o"),
        product_id: Some("p"),
        category: None,
        country: Some("FR"),
        device: None,
        channel: None,
        quantity: 2,
        unit_price: Some(Money::from_units(357_900)),
        currency: Some("EUR"),
    }
}

fn framed(event: &Event<'_>, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event(event, id, &mut out);
    out
}

fn records(values: &[Option<Vec<u8>>]) -> Records {
    let mut buffer = RecordBuffer::new();
    for value in values {
        buffer.push(LogTime::new(1_700_000_000_500), Some(b"c"), value.as_deref(), &[]);
    }
    Records::contiguous(Offset::new(100), buffer)
}

#[test]
fn our_encoding_is_what_the_avro_library_reads_and_writes() {
    let schemas = Schemas::shipped();
    let schema = &schemas.subject(Subject::Events).schema;
    for units in [0_i64, 1, -1, 127, 128, -128, -129, 357_900, 999_999_999_999_999_999, -999_999_999_999_999_999] {
        let bytes = framed(&Event { unit_price: Some(Money::from_units(units)), ..event("e") }, 1);
        let mut body = &bytes[5..];
        let value = apache_avro::from_avro_datum(schema, &mut body, None).unwrap();
        assert!(body.is_empty());
        assert_eq!(apache_avro::to_avro_datum(schema, value).unwrap(), &bytes[5..], "{units}");
        let decoded = EventDecoder::new("events", Arc::new(Schemas::shipped()), 1 << 20)
            .decode(0, &records(&[Some(bytes)]))
            .unwrap();
        let price = decoded.events.column_by_name("unit_price").unwrap().as_primitive::<Decimal128Type>().value(0);
        assert_eq!(price, i128::from(units));
    }
}

#[test]
fn what_an_event_does_not_say_is_null() {
    let values = [Some(framed(&event("a"), 1)), Some(framed(&Event { customer_id: None, ..event("b") }, 1))];
    let decoded =
        EventDecoder::new("events", Arc::new(Schemas::shipped()), 1 << 20).decode(0, &records(&values)).unwrap();
    let nulls = |column: &str| decoded.events.column_by_name(column).unwrap().null_count();
    assert_eq!((nulls("customer_id"), nulls("session_id"), nulls("country")), (1, 2, 0));
}

#[test]
fn every_kind_of_damage_has_its_own_reason_and_the_rest_goes_on() {
    let good = framed(&event("good"), 1);
    let mut unknown_type = framed(&event("t"), 1);
    let at = 5 + 1 + 1; // magic and id, then the event id "t" with its length
    unknown_type[at] = 40 << 1;
    let mut trailing = good.clone();
    trailing.push(7);
    let mut bad_text = framed(&event("xx"), 1);
    bad_text[6] = 0xff;
    let cases = [
        (Some(good.clone()), None),
        (None, Some(Reason::EmptyValue)),
        (Some(b"not avro".to_vec()), Some(Reason::NoMagicByte)),
        (Some(vec![0, 0, 0]), Some(Reason::Truncated)),
        (Some(framed(&event("u"), 77)), Some(Reason::UnknownSchema)),
        (Some(good[..good.len() - 3].to_vec()), Some(Reason::Truncated)),
        (Some(trailing), Some(Reason::TrailingBytes)),
        (Some(bad_text), Some(Reason::Malformed)),
        (Some(unknown_type), Some(Reason::UnknownEventType)),
        (Some(vec![0; 2_000_000]), Some(Reason::TooLarge)),
        (Some(framed(&event("last"), 1)), None),
    ];
    let mut decoder = EventDecoder::new("events", Arc::new(Schemas::shipped()), 1 << 20);
    let decoded = decoder.decode(3, &records(&cases.iter().map(|(v, _)| v.clone()).collect::<Vec<_>>())).unwrap();
    let expected: Vec<_> =
        cases.iter().enumerate().filter_map(|(i, (_, reason))| reason.map(|r| (100 + i as i64, r))).collect();
    let found: Vec<_> = decoded.dead_letters.iter().map(|l| (l.position, l.reason)).collect();
    assert_eq!(found, expected);
    assert_eq!(decoded.record_of_row, [0, 10]);
    let ids = decoded.events.column_by_name("event_id").unwrap().as_string_view();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["good", "last"]);
}

#[test]
fn no_cut_and_no_flipped_byte_stops_the_stream() {
    let good = framed(&event("good"), 1);
    let mut values: Vec<_> = (0..good.len()).map(|cut| Some(good[..cut].to_vec())).collect();
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = good.clone();
            damaged[at] ^= flip;
            values.push(Some(damaged));
        }
    }
    let mut decoder = EventDecoder::new("events", Arc::new(Schemas::shipped()), 1 << 20);
    let decoded = decoder.decode(0, &records(&values)).unwrap();
    assert_eq!(decoded.events.num_rows() + decoded.dead_letters.len(), values.len());
}

#[test]
fn an_event_that_breaks_a_rule_is_refused_with_that_rule() {
    let day = std::time::Duration::from_secs(86_400);
    let at = |time| Event { event_time: EventTime::new(time), ..event("e") };
    let cases = [
        (event("ok"), None),
        (event(""), Some(Reason::MissingEventId)),
        (at(0), Some(Reason::TooOld)),
        (at(4_102_444_800_000), Some(Reason::Future)),
        (at(1_700_000_000_500 + 86_400_000), None),
        (Event { unit_price: Some(Money::from_units(-1)), ..event("n") }, Some(Reason::NegativePrice)),
        (Event { quantity: 0, ..event("q") }, Some(Reason::BadQuantity)),
        (Event { product_id: None, ..event("p") }, Some(Reason::MissingProduct)),
        (Event { product_id: None, event_type: EventType::PageView, ..event("v") }, None),
    ];
    let values: Vec<_> = cases.iter().map(|(e, _)| Some(framed(e, 1))).collect();
    let decoded =
        EventDecoder::new("events", Arc::new(Schemas::shipped()), 1 << 20).decode(0, &records(&values)).unwrap();
    let rules = ValidationRules { max_future_skew: day };
    let validation = rules.check(&decoded.events, |_| LogTime::new(1_700_000_000_500));
    let found: Vec<_> = validation.refused.iter().map(|(row, reason, _)| (*row, *reason)).collect();
    let expected: Vec<_> = cases.iter().enumerate().filter_map(|(i, (_, reason))| reason.map(|r| (i, r))).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_newer_writer_with_more_fields_is_read_beside_the_old_one() {
    let schemas = Schemas::shipped();
    let newer = schemas.subject(Subject::Events).text.replace(
        r#"{"name": "currency""#,
        r#"{"name": "coupon", "type": ["null", "string"], "default": null}, {"name": "currency""#,
    );
    let writer = Schema::parse_str(&newer).unwrap();
    assert!(schemas.readable_as_event(&writer).is_ok());
    schemas.remember_for_test(9, &newer);
    let value = framed(&event("old"), 1);
    let mut v2 = framed(&event("new"), 9);
    // The coupon stands before the currency: union branch 1, text "X".
    let at = v2.len() - 5;
    v2.splice(at..at, [2, 2, b'X']);
    let mut decoder = EventDecoder::new("events", Arc::new(schemas), 1 << 20);
    let decoded = decoder.decode(0, &records(&[Some(v2.clone()), Some(value), Some(v2)])).unwrap();
    assert!(decoded.dead_letters.is_empty(), "{:?}", decoded.dead_letters);
    let ids = decoded.events.column_by_name("event_id").unwrap().as_string_view();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["new", "old", "new"]);
    assert_eq!(decoded.schema_ids, Int32Array::from(vec![9, 1, 9]));
    assert_eq!(decoded.record_of_row, [0, 1, 2]);
}
