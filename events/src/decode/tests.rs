use super::*;
use crate::{
    EVENT_COLUMNS, Event, EventTime, EventType, LogTime, Money, Offset, RecordBuffer, Subject, ValidationRules,
    encode_event,
};
use apache_avro::{Schema, types::Value};
use arrow::{
    array::{Array, AsArray},
    datatypes::{Decimal128Type, Int32Type, TimestampMillisecondType},
};

pub(super) fn event(id: &str) -> Event<'_> {
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

pub(super) fn framed(event: &Event<'_>, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event(event, id, &mut out);
    out
}

pub(super) fn records(values: &[Option<Vec<u8>>]) -> Records {
    let mut buffer = RecordBuffer::new();
    for value in values {
        buffer.push(LogTime::new(1_700_000_000_500), Some(b"c"), value.as_deref(), &[]);
    }
    Records::contiguous(Offset::new(100), buffer)
}

pub(super) fn decoder(schemas: Schemas) -> EventDecoder {
    EventDecoder::new("events", EventFormat::Avro, Arc::new(schemas), 1 << 20)
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
        let decoded = decoder(Schemas::shipped()).decode(0, &records(&[Some(bytes)])).unwrap();
        let price = decoded.events.column_by_name("unit_price").unwrap().as_primitive::<Decimal128Type>().value(0);
        assert_eq!(price, i128::from(units));
    }
}

#[test]
fn what_an_event_does_not_say_is_null() {
    let values = [Some(framed(&event("a"), 1)), Some(framed(&Event { customer_id: None, ..event("b") }, 1))];
    let decoded = decoder(Schemas::shipped()).decode(0, &records(&values)).unwrap();
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
        (Some(b"{}".to_vec()), Some(Reason::NoMagicByte)),
        (Some(vec![0, 0, 0]), Some(Reason::Truncated)),
        (Some(framed(&event("u"), 77)), Some(Reason::UnknownSchema)),
        (Some(good[..good.len() - 3].to_vec()), Some(Reason::Truncated)),
        (Some(trailing), Some(Reason::TrailingBytes)),
        (Some(bad_text), Some(Reason::Malformed)),
        (Some(unknown_type), Some(Reason::UnknownEventType)),
        (Some(vec![0; 2_000_000]), Some(Reason::TooLarge)),
        (Some(framed(&event("last"), 1)), None),
    ];
    let mut decoder = decoder(Schemas::shipped());
    let decoded = decoder.decode(3, &records(&cases.iter().map(|(v, _)| v.clone()).collect::<Vec<_>>())).unwrap();
    let expected: Vec<_> =
        cases.iter().enumerate().filter_map(|(i, (_, reason))| reason.map(|r| (100 + i as i64, r))).collect();
    let found: Vec<_> = decoded.dead_letters.iter().map(|l| (l.position, l.reason)).collect();
    assert_eq!(found, expected);
    assert_eq!(decoded.record_of_row, [0, 11]);
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
    let mut decoder = decoder(Schemas::shipped());
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
    let decoded = decoder(Schemas::shipped()).decode(0, &records(&values)).unwrap();
    let rules = ValidationRules { max_future_skew: day };
    let validation = rules.check(&decoded.events, |_| LogTime::new(1_700_000_000_500));
    let found: Vec<_> = validation.refused.iter().map(|(row, reason, _)| (*row, *reason)).collect();
    let expected: Vec<_> = cases.iter().enumerate().filter_map(|(i, (_, reason))| reason.map(|r| (i, r))).collect();
    assert_eq!(found, expected);
}

/// A newer writer's schema: one optional field more, and all fields in the opposite order.
fn newer_schema(schemas: &Schemas) -> Schema {
    let mut json: serde_json::Value = serde_json::from_str(&schemas.subject(Subject::Events).text).unwrap();
    let fields = json["fields"].as_array_mut().unwrap();
    fields.push(serde_json::json!({"name": "coupon", "type": ["null", "string"], "default": null}));
    fields.reverse();
    let schema = Schema::parse(&json).unwrap();
    schemas.remember_for_test(9, &json.to_string());
    schema
}

/// The event as the newer writer writes it, with a coupon when one is given.
fn framed_by_newer(newer: &Schema, older: &Schema, event: &Event<'_>, coupon: Option<&str>) -> Vec<u8> {
    let value = framed(event, 1);
    let Value::Record(mut fields) = apache_avro::from_avro_datum(older, &mut &value[5..], None).unwrap() else {
        panic!("an event is a record")
    };
    fields.push(match coupon {
        None => ("coupon".to_owned(), Value::Union(0, Box::new(Value::Null))),
        Some(text) => ("coupon".to_owned(), Value::Union(1, Box::new(Value::String(text.to_owned())))),
    });
    fields.reverse();
    let mut framed = vec![0, 0, 0, 0, 9];
    framed.extend(apache_avro::to_avro_datum(newer, Value::Record(fields)).unwrap());
    framed
}

#[test]
fn two_versions_of_the_schema_mixed_in_one_batch_come_out_in_record_order() {
    let schemas = Schemas::shipped();
    let older = schemas.subject(Subject::Events).schema.clone();
    let newer = newer_schema(&schemas);
    let ids: Vec<String> = (0..40).map(|i| format!("event-{i}")).collect();
    let events: Vec<Event<'_>> = ids
        .iter()
        .zip(0_i32..)
        .map(|(id, i)| Event {
            event_type: EventType::ALL[i as usize % 8],
            event_time: EventTime::new(1_700_000_000_000 + i64::from(i)),
            customer_id: (i % 3 != 0).then_some(id),
            country: (i % 5 != 0).then_some("FR"),
            device: Some("a device with a longer name"),
            quantity: i,
            unit_price: (i % 4 != 0).then(|| Money::from_units(i64::from(i) * 1_000 - 7_000)),
            ..event(id)
        })
        .collect();
    let is_new = |i: usize| matches!(i % 5, 0 | 1 | 3);
    let coupon = |i: usize| i.is_multiple_of(2).then_some("SPRING");
    let value = |(i, event): (usize, &Event<'_>)| match is_new(i) {
        true => framed_by_newer(&newer, &older, event, coupon(i)),
        false => framed(event, 1),
    };
    let mut values: Vec<_> = events.iter().enumerate().map(value).map(Some).collect();
    // Two dead letters between them, one of each version.
    values.insert(11, Some(framed(&event("cut"), 1)[..9].to_vec()));
    values.insert(30, Some(vec![0, 0, 0, 0, 9, 0xff]));

    let decoded = decoder(schemas).decode(0, &records(&values)).unwrap();
    assert_eq!(decoded.dead_letters.iter().map(|l| l.position).collect::<Vec<_>>(), [111, 130]);
    let expected_records: Vec<u32> = (0..42).filter(|i| ![11, 30].contains(i)).collect();
    assert_eq!(decoded.record_of_row, expected_records);
    let expected_ids: Vec<i32> = (0..40).map(|i| if is_new(i) { 9 } else { 1 }).collect();
    assert_eq!(decoded.schema_ids, Int32Array::from(expected_ids));
    // The same events, all by the old writer: all columns are the same.
    let plain: Vec<_> = events.iter().map(|e| Some(framed(e, 1))).collect();
    let old = decoder(Schemas::shipped()).decode(0, &records(&plain)).unwrap();
    assert_eq!(decoded.events, old.events);
    // And they are what was written.
    let column = |name: &str| decoded.events.column_by_name(name).unwrap();
    for (row, event) in events.iter().enumerate() {
        assert_eq!(column("event_id").as_string_view().value(row), event.event_id);
        assert_eq!(column("event_type").as_string_view().value(row), event.event_type.as_str());
        assert_eq!(column("event_time").as_primitive::<TimestampMillisecondType>().value(row), event.event_time.get());
        assert_eq!(column("quantity").as_primitive::<Int32Type>().value(row), event.quantity);
        let price = column("unit_price");
        let price = price.is_valid(row).then(|| price.as_primitive::<Decimal128Type>().value(row));
        assert_eq!(price, event.unit_price.map(|p| i128::from(p.units())));
        for (name, text) in [
            ("customer_id", event.customer_id),
            ("country", event.country),
            ("device", event.device),
            ("category", None),
        ] {
            let texts = column(name).as_string_view();
            assert_eq!(texts.is_valid(row).then(|| texts.value(row)), text, "{name} of row {row}");
        }
    }
}

#[test]
fn the_names_of_texts_and_of_columns_are_the_same() {
    let schema = crate::event_schema();
    assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), EVENT_COLUMNS);
}
