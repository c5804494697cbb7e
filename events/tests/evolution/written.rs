//! JSON to Avro by apache-avro, which shares no code with our decoder.

use super::golden::bytes_of;
use apache_avro::{Decimal, Schema, schema::ResolvedSchema, types::Value as Avro};
use serde_json::Value as Json;

/// The framed record.
pub fn record_of(id: u32, schema: &Schema, json: &Json) -> Vec<u8> {
    let names = ResolvedSchema::try_from(schema).unwrap();
    let value = value_of(schema, json, &names).unwrap_or_else(|| panic!("{json} is not of {schema:?}"));
    let mut record = vec![0];
    record.extend(id.to_be_bytes());
    record.extend(apache_avro::to_avro_datum(schema, value).unwrap());
    record
}

/// None when the JSON value is not of the schema.
fn value_of(schema: &Schema, json: &Json, names: &ResolvedSchema<'_>) -> Option<Avro> {
    let text = || json.as_str().map(str::to_owned);
    Some(match schema {
        Schema::Ref { name } => return value_of(names.get_names().get(name)?, json, names),
        Schema::Null => json.is_null().then_some(Avro::Null)?,
        Schema::Boolean => Avro::Boolean(json.as_bool()?),
        Schema::Int => Avro::Int(json.as_i64()?.try_into().ok()?),
        Schema::Date => Avro::Date(json.as_i64()?.try_into().ok()?),
        Schema::Long => Avro::Long(json.as_i64()?),
        Schema::TimeMicros => Avro::TimeMicros(json.as_i64()?),
        Schema::TimestampMillis => Avro::TimestampMillis(json.as_i64()?),
        Schema::TimestampMicros => Avro::TimestampMicros(json.as_i64()?),
        Schema::TimestampNanos => Avro::TimestampNanos(json.as_i64()?),
        Schema::LocalTimestampMillis => Avro::LocalTimestampMillis(json.as_i64()?),
        Schema::Float => Avro::Float(json.as_f64()? as f32),
        Schema::Double => Avro::Double(json.as_f64()?),
        Schema::String => Avro::String(text()?),
        Schema::Uuid => Avro::String(text()?),
        Schema::Bytes => Avro::Bytes(match json.get("hex") {
            Some(hex) => bytes_of(hex.as_str()?),
            None => text()?.into_bytes(),
        }),
        Schema::Fixed(fixed) => Avro::Fixed(fixed.size, text()?.into_bytes()),
        Schema::Decimal(decimal) => {
            let amount: rust_decimal::Decimal = json.as_str()?.parse().ok()?;
            let mut exact = amount;
            exact.rescale(decimal.scale as u32);
            assert_eq!(amount, exact, "{amount} has more digits than the schema");
            let bytes = exact.mantissa().to_be_bytes();
            let sign = if exact.is_sign_negative() { 0xff } else { 0 };
            let skip = (0..15).take_while(|i| bytes[*i] == sign && (bytes[i + 1] ^ sign) & 0x80 == 0).count();
            Avro::Decimal(Decimal::from(&bytes[skip..]))
        }
        Schema::Enum(symbols) => {
            let symbol = text()?;
            Avro::Enum(symbols.symbols.iter().position(|s| *s == symbol)? as u32, symbol)
        }
        Schema::Array(array) => {
            Avro::Array(json.as_array()?.iter().map(|item| value_of(&array.items, item, names)).collect::<Option<_>>()?)
        }
        Schema::Map(map) => Avro::Map(
            json.as_object()?
                .iter()
                .map(|(key, value)| Some((key.clone(), value_of(&map.types, value, names)?)))
                .collect::<Option<_>>()?,
        ),
        Schema::Union(union) => {
            let branches = union.variants().iter().enumerate();
            let (i, value) = branches.filter_map(|(i, branch)| Some((i, value_of(branch, json, names)?))).next()?;
            Avro::Union(i as u32, Box::new(value))
        }
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| Some((field.name.clone(), value_of(&field.schema, json.get(&field.name)?, names)?)))
                .collect::<Option<_>>()?,
        ),
        other => panic!("no JSON for {other:?}"),
    })
}
