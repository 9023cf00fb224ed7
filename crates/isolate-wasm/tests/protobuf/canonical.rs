//! What a message says, however it was written: for comparing.

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};
use std::{collections::BTreeMap, fmt::Write as _};

/// One text for all ways to write the same message: fields by number, maps by key, unknown fields left out, -0.0 told
/// from 0.0, every NaN alike.
pub(crate) fn text(message: &DynamicMessage) -> String {
    let mut out = String::new();
    write(message, &mut out);
    out
}

fn write(message: &DynamicMessage, out: &mut String) {
    out.push('{');
    for field in message.descriptor().fields() {
        // An implicit field says its zero as well as a number: -0.0 must not look like nothing.
        if message.has_field(&field) || (!field.supports_presence() && !field.is_list() && !field.is_map()) {
            write!(out, "{}:", field.number()).unwrap();
            value(&message.get_field(&field), out);
            out.push(' ');
        }
    }
    out.push('}');
}

fn value(one: &Value, out: &mut String) {
    match one {
        Value::F32(number) if number.is_nan() => out.push_str("nan"),
        Value::F64(number) if number.is_nan() => out.push_str("nan"),
        Value::Message(message) => write(message, out),
        Value::List(elements) => {
            out.push('[');
            for element in elements {
                value(element, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let entries: BTreeMap<String, &Value> =
                entries.iter().map(|(key, value)| (key_text(key), value)).collect();
            out.push('<');
            for (key, element) in entries {
                write!(out, "{key}=").unwrap();
                value(element, out);
                out.push(',');
            }
            out.push('>');
        }
        other => write!(out, "{other:?}").unwrap(),
    }
}

fn key_text(key: &MapKey) -> String {
    format!("{key:?}")
}

/// Whether something in it breaks a rule of its own: a `required` field that is missing.
pub(crate) fn lacks_required(message: &DynamicMessage) -> bool {
    message.descriptor().fields().any(|field| {
        (field.cardinality() == prost_reflect::Cardinality::Required && !message.has_field(&field))
            || (message.has_field(&field) && inner(&message.get_field(&field), &lacks_required))
    })
}

/// Whether an enum somewhere in it has a number that its type does not name.
pub(crate) fn has_unknown_number(message: &DynamicMessage) -> bool {
    message.fields().any(|(field, held)| {
        let unnamed = |value: &Value| match (value, enumeration(&field)) {
            (Value::EnumNumber(number), Some(one)) => one.get_value(*number).is_none(),
            _ => false,
        };
        each(held, &unnamed) || inner(held, &has_unknown_number)
    })
}

fn enumeration(field: &prost_reflect::FieldDescriptor) -> Option<prost_reflect::EnumDescriptor> {
    let kind = match field.kind() {
        prost_reflect::Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    kind.as_enum().cloned()
}

fn each(held: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    match held {
        Value::List(elements) => elements.iter().any(test),
        Value::Map(entries) => entries.values().any(test),
        one => test(one),
    }
}

fn inner(held: &Value, test: &dyn Fn(&DynamicMessage) -> bool) -> bool {
    each(held, &|value| matches!(value, Value::Message(message) if test(message)))
}
