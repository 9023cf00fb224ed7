//! Messages and enums as JSON Schema.

use super::described;
use crate::docs::Docs;
use crate::json::{NULL_VALUE, WellKnown};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// The schemas that a document refers to.
pub(super) struct Schemas<'a> {
    docs: &'a Docs,
    done: Map<String, Value>,
    /// Referred to, and not yet written.
    open: Vec<MessageDescriptor>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(docs: &'a Docs) -> Schemas<'a> {
        Schemas { docs, done: Map::new(), open: Vec::new() }
    }

    /// A reference to a message, or its form where it has one of its own.
    pub(super) fn reference(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(form) = self.well_known(message) {
            return form;
        }
        let name = message.full_name();
        if !self.done.contains_key(name) {
            self.done.insert(name.to_owned(), Value::Null);
            self.open.push(message.clone());
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// A field, with its list or map.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let value = self.one(&entry.map_entry_value_field().kind());
                json!({ "type": "object", "additionalProperties": value })
            }
            kind if field.is_list() => {
                let items = self.one(&kind);
                json!({ "type": "array", "items": items })
            }
            kind => self.one(&kind),
        }
    }

    /// Everything that was referred to, with what that refers to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(message) = self.open.pop() {
            let schema = self.message(&message);
            self.done.insert(message.full_name().to_owned(), schema);
        }
        self.done
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields().filter(|field| !field.is_group()) {
            let mut schema = self.field(&field);
            let comment = self.docs.get(field.full_name()).unwrap_or_default();
            let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let text = match oneof {
                Some(oneof) if comment.is_empty() => format!("At most one of {} is given.", oneof.name()),
                Some(oneof) => format!("{comment}\n\nAt most one of {} is given.", oneof.name()),
                None => comment.to_owned(),
            };
            described(&mut schema, Some(&text));
            if field.cardinality() == Cardinality::Required {
                required.push(Value::from(field.json_name()));
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if let (Some(object), false) = (schema.as_object_mut(), required.is_empty()) {
            object.insert("required".to_owned(), required.into());
        }
        described(&mut schema, self.docs.get(message.full_name()));
        schema
    }

    fn one(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => float("double"),
            Kind::Float => float("float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "string", "format": "int64" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.reference(message),
            Kind::Enum(one) => self.enumeration(one),
        }
    }

    fn enumeration(&mut self, one: &EnumDescriptor) -> Value {
        if one.full_name() == NULL_VALUE {
            return json!({ "type": "null" });
        }
        let name = one.full_name();
        if !self.done.contains_key(name) {
            let values: Vec<Value> = one.values().map(|value| value.name().into()).collect();
            let mut schema = json!({ "type": "string", "enum": values });
            described(&mut schema, self.docs.get(name));
            self.done.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn well_known(&mut self, message: &MessageDescriptor) -> Option<Value> {
        Some(match WellKnown::of(message.full_name())? {
            WellKnown::Any => json!({
                "type": "object",
                "properties": { "@type": { "type": "string" } },
                "additionalProperties": true,
            }),
            WellKnown::Timestamp => json!({ "type": "string", "format": "date-time" }),
            WellKnown::Duration => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
            WellKnown::FieldMask => json!({ "type": "string", "examples": ["name,owner.emailAddress"] }),
            WellKnown::Struct => json!({ "type": "object", "additionalProperties": true }),
            WellKnown::Value => json!({}),
            WellKnown::List => json!({ "type": "array" }),
            WellKnown::Wrapper => {
                let kind = message.get_field(1)?.kind();
                let inner = if matches!(kind, Kind::Message(_)) { json!({}) } else { self.one(&kind) };
                json!({ "anyOf": [inner, { "type": "null" }] })
            }
            WellKnown::Empty => json!({ "type": "object", "additionalProperties": false }),
        })
    }
}

/// What JSON has no number for is a word.
fn float(format: &str) -> Value {
    json!({ "anyOf": [
        { "type": "number", "format": format },
        { "type": "string", "enum": ["NaN", "Infinity", "-Infinity"] },
    ] })
}
