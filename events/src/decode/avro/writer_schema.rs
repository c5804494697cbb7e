//! What a writer's schema is to us: for each of our columns the field it is read from, or why no record of it can be.
//!
//! The rules are Avro's schema resolution, and a little more where nothing can be misread (`schemas/README.md`). They stand
//! here and not in arrow-avro, which is given a schema of our columns only, under our names, as they are written: so it
//! neither resolves anything nor meets a type that it does not know.

use super::{
    columns::Column,
    named_types::NamedTypes,
    source::{REQUIRED, Source},
};
use crate::{
    EVENT_COLUMNS,
    structure::{EventField, EventStructure},
};
use apache_avro::{
    Schema,
    schema::{RecordField, RecordSchema},
};
use serde_json::{Value, json};

/// A writer's schema that can be read as events.
pub(super) struct WriterSchema {
    pub structure: EventStructure,
    /// The schema of what is left of a body when only our columns are kept.
    pub kept: Value,
    /// Where each of our columns comes from.
    pub columns: Vec<Column>,
}

impl WriterSchema {
    /// Compiles the writer's schema. `ours` gives the record's name and the aliases.
    ///
    /// # Errors
    /// Says what cannot be read, and why; names the column if it is one's fault.
    pub fn of_event(text: &str, ours: &Schema) -> Result<Self, String> {
        let mut json: Value = serde_json::from_str(text).map_err(|e| format!("it is no Avro schema: {e}"))?;
        let aliases = field_aliases(&json);
        without_what_readers_ignore(&mut json);
        let schema = Schema::parse(&json).map_err(|e| format!("it is no Avro schema: {e}"))?;
        let (Schema::Record(record), Schema::Record(ours)) = (&schema, ours) else {
            return Err("it is no record".to_owned());
        };
        if !names_agree(record, ours) {
            let (theirs, ours) = (record.name.fullname(None), ours.name.fullname(None));
            return Err(format!("the record is '{theirs}', which is not '{ours}' by name or alias"));
        }
        let types = NamedTypes::of(&schema);
        // By field of the writer: the column it is, and how it is written.
        let mut sources: Vec<Option<(usize, Source)>> = record.fields.iter().map(|_| None).collect();
        for (column, name) in EVENT_COLUMNS.into_iter().enumerate() {
            match field_of(column, ours, &record.fields, &aliases)? {
                None if REQUIRED.contains(&name) => {
                    return Err(format!("column '{name}' is missing, and has no default"));
                }
                None => {}
                Some(at) => {
                    let field = &record.fields[at];
                    let source = Source::of(name, &types, &field.schema).map_err(|why| match field.name == name {
                        true => format!("column '{name}': {why}"),
                        false => format!("column '{name}', written as '{}': {why}", field.name),
                    })?;
                    if let Some((other, _)) = sources[at].take() {
                        let (field, other) = (&field.name, EVENT_COLUMNS[other]);
                        return Err(format!("field '{field}' has the aliases '{other}' and '{name}'"));
                    }
                    sources[at] = source.map(|source| (column, source));
                }
            }
        }
        Ok(Self::compile(record, &types, sources))
    }

    fn compile(record: &RecordSchema, types: &NamedTypes<'_>, sources: Vec<Option<(usize, Source)>>) -> Self {
        let at = |name: &str| sources.iter().position(|s| s.as_ref().is_some_and(|(c, _)| EVENT_COLUMNS[*c] == name));
        let nullable_quantity = at("event_type")
            .zip(at("quantity"))
            .filter(|(_, quantity)| sources[*quantity].as_ref().is_some_and(|(_, source)| source.may_be_null()));
        let mut columns: Vec<Column> = EVENT_COLUMNS.iter().map(|_| Column::Default).collect();
        let mut kept = Vec::new();
        let mut fields = Vec::new();
        for (field, source) in record.fields.iter().zip(sources) {
            let name = field.name.clone();
            fields.push(match source {
                None => EventField { name, structure: types.structure(&field.schema), kept: false },
                Some((column, source)) => {
                    columns[column] = Column::At(kept.len(), source.conversion());
                    let ours = EVENT_COLUMNS[column];
                    kept.push(json!({ "name": ours, "type": source.avro_type(ours) }));
                    EventField { name, structure: source.structure(ours), kept: true }
                }
            });
        }
        Self {
            structure: EventStructure { fields, named: types.records(), nullable_quantity },
            kept: json!({ "type": "record", "name": "Event", "fields": kept }),
            columns,
        }
    }

    /// Whether a body has to be cut down to our columns before it is decoded.
    pub fn has_unknown_columns(&self) -> bool {
        self.structure.fields.iter().any(|field| !field.kept)
    }
}

/// The aliases of the record's fields, in their order.
fn field_aliases(schema: &Value) -> Vec<Vec<String>> {
    let aliases = |field: &Value| {
        field["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    schema["fields"].as_array().into_iter().flatten().map(aliases).collect()
}

/// What the library is too strict with. Defaults are for readers, and a writer's may be of a wrong type. Two fields may have
/// the same alias. A logical type is a name, and `uuid` and `duration` are for it the same of 16 or 12 bytes and of a text.
fn without_what_readers_ignore(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            let logical = fields.get("logicalType");
            if logical.is_some_and(|name| !name.is_string() || name == "uuid" || name == "duration") {
                fields.remove("logicalType");
            }
            for field in fields.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
                field.as_object_mut().map(|field| field.remove("aliases"));
            }
            fields.values_mut().for_each(without_what_readers_ignore);
        }
        Value::Array(items) => items.iter_mut().for_each(without_what_readers_ignore),
        _ => {}
    }
}

/// Records match by their unqualified names, as the Avro specification has it, or by an alias of either side.
fn names_agree(writer: &RecordSchema, ours: &RecordSchema) -> bool {
    let has_alias = |record: &RecordSchema, other: &RecordSchema| {
        record.aliases.iter().flatten().any(|alias| alias.name() == other.name.name)
    };
    writer.name.name == ours.name.name || has_alias(writer, ours) || has_alias(ours, writer)
}

/// The writer's field that a column is read from: by its name, by an alias of ours, by an alias of the writer's.
fn field_of(
    column: usize,
    ours: &RecordSchema,
    fields: &[RecordField],
    aliases: &[Vec<String>],
) -> Result<Option<usize>, String> {
    let name = EVENT_COLUMNS[column];
    let named = |name: &str| fields.iter().position(|field| field.name == name);
    let our_field = ours.fields.iter().find(|field| field.name == name);
    let our_aliases = our_field.and_then(|field| field.aliases.as_deref()).unwrap_or_default();
    if let Some(at) = named(name).or_else(|| our_aliases.iter().find_map(|alias| named(alias))) {
        return Ok(Some(at));
    }
    // What has a name of ours is that column, whatever it was called before.
    let mut renamed = fields.iter().zip(aliases).enumerate().filter(|(_, (field, aliases))| {
        aliases.iter().any(|alias| alias == name) && !EVENT_COLUMNS.contains(&field.name.as_str())
    });
    match (renamed.next(), renamed.next()) {
        (Some((_, (first, _))), Some((_, (second, _)))) => {
            Err(format!("column '{name}' is an alias of two fields, '{}' and '{}'", first.name, second.name))
        }
        (first, _) => Ok(first.map(|(at, _)| at)),
    }
}

#[cfg(test)]
mod tests;
