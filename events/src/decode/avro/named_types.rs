//! The types of a writer's schema that have a name, and the structure of what is no column of ours.

use crate::structure::Structure;
use apache_avro::{
    Schema,
    schema::{Alias, DecimalSchema, Name, RecordSchema},
};
use std::collections::HashMap;

/// Types by full name.
pub(super) struct NamedTypes<'a> {
    types: HashMap<String, &'a Schema>,
    /// Records, by their number.
    records: Vec<&'a RecordSchema>,
    numbers: HashMap<String, usize>,
}

impl<'a> NamedTypes<'a> {
    /// All named types in the schema.
    pub fn of(schema: &'a Schema) -> Self {
        let mut named = Self { types: HashMap::new(), records: Vec::new(), numbers: HashMap::new() };
        named.collect(schema);
        named
    }

    fn collect(&mut self, schema: &'a Schema) {
        match schema {
            Schema::Record(record) => {
                self.name(&record.name, &record.aliases, schema);
                self.numbers.insert(record.name.fullname(None), self.records.len());
                self.records.push(record);
                record.fields.iter().for_each(|field| self.collect(&field.schema));
            }
            Schema::Enum(symbols) => self.name(&symbols.name, &symbols.aliases, schema),
            Schema::Fixed(fixed) => self.name(&fixed.name, &fixed.aliases, schema),
            Schema::Decimal(DecimalSchema { inner, .. }) => {
                if let Schema::Fixed(fixed) = &**inner {
                    self.name(&fixed.name, &fixed.aliases, schema);
                }
            }
            Schema::Array(array) => self.collect(&array.items),
            Schema::Map(map) => self.collect(&map.types),
            Schema::Union(union) => union.variants().iter().for_each(|branch| self.collect(branch)),
            _ => {}
        }
    }

    fn name(&mut self, name: &Name, aliases: &Option<Vec<Alias>>, schema: &'a Schema) {
        self.types.insert(name.fullname(None), schema);
        for alias in aliases.iter().flatten() {
            self.types.entry(alias.fullname(name.namespace.clone())).or_insert(schema);
        }
    }

    /// The schema itself, where it is the name of one.
    pub fn resolved<'s>(&self, schema: &'s Schema) -> &'s Schema
    where
        'a: 's,
    {
        match schema {
            Schema::Ref { name } => self.types.get(&name.fullname(None)).copied().unwrap_or(schema),
            _ => schema,
        }
    }

    /// What the walk needs of a field that is no column of ours.
    pub fn structure(&self, schema: &Schema) -> Structure {
        match self.resolved(schema) {
            // The library resolves names when it parses: what is none of its types cannot stand here.
            Schema::Null | Schema::Ref { .. } => Structure::Nothing,
            Schema::Boolean => Structure::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Structure::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Structure::Long,
            Schema::Float => Structure::Fixed(4),
            Schema::Double => Structure::Fixed(8),
            Schema::Bytes | Schema::BigDecimal => Structure::Bytes,
            Schema::String | Schema::Uuid => Structure::Text,
            Schema::Decimal(decimal) => self.structure(&decimal.inner),
            Schema::Duration => Structure::Fixed(12),
            Schema::Fixed(fixed) => Structure::Fixed(fixed.size),
            Schema::Enum(symbols) => Structure::Enum(symbols.symbols.len()),
            Schema::Array(array) => Structure::Array(Box::new(self.structure(&array.items))),
            Schema::Map(map) => Structure::Map(Box::new(self.structure(&map.types))),
            Schema::Union(union) => Structure::Union(union.variants().iter().map(|v| self.structure(v)).collect()),
            Schema::Record(record) => Structure::Named(self.numbers[&record.name.fullname(None)]),
        }
    }

    /// The structure of each record, by its number. A record without bytes is nothing: otherwise records of two such
    /// fields each, one in the other, take a walk of billions of steps through no bytes at all.
    pub fn records(&self) -> Vec<Structure> {
        let fields = |record: &RecordSchema| record.fields.iter().map(|f| self.structure(&f.schema)).collect();
        let mut records: Vec<_> = self.records.iter().map(|record| Structure::Record(fields(record))).collect();
        let is_nothing = |structure: &Structure, records: &[Structure]| match structure {
            Structure::Nothing | Structure::Fixed(0) => true,
            Structure::Named(i) => matches!(records[*i], Structure::Nothing),
            _ => false,
        };
        while let Some(empty) = records.iter().position(
            |record| matches!(record, Structure::Record(fields) if fields.iter().all(|f| is_nothing(f, &records))),
        ) {
            records[empty] = Structure::Nothing;
        }
        records
    }
}
