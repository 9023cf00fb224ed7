//! Which messages and enums services use, in an order that nothing but their files decides.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor};
use std::collections::BTreeMap;

/// What the services use, directly or not.
#[derive(Default)]
pub(super) struct Used {
    pub(super) messages: Vec<MessageDescriptor>,
    pub(super) enums: Vec<EnumDescriptor>,
    pub(super) message_index: BTreeMap<String, usize>,
    pub(super) enum_index: BTreeMap<String, usize>,
}

/// Where a thing is declared: outer before inner, then the pool's order of files, then the file's own order. Names are
/// given out in this order, so that what is declared later at the same depth never takes the name of what was there.
type Declared = (usize, usize, Vec<i32>);

pub(super) fn used(services: &[ServiceDescriptor]) -> Used {
    let mut messages: BTreeMap<String, (Declared, MessageDescriptor)> = BTreeMap::new();
    let mut enums: BTreeMap<String, (Declared, EnumDescriptor)> = BTreeMap::new();
    let methods = services.iter().flat_map(ServiceDescriptor::methods);
    let mut open: Vec<MessageDescriptor> =
        methods.flat_map(|method| [method.input(), method.output()]).collect();
    while let Some(message) = open.pop() {
        if messages.contains_key(message.full_name()) {
            continue;
        }
        for field in message.fields() {
            match value_field(&field).kind() {
                Kind::Message(inner) => open.push(inner),
                Kind::Enum(inner) => {
                    let declared = declared(inner.path(), inner.parent_file().index());
                    enums.insert(inner.full_name().to_owned(), (declared, inner));
                }
                _ => {}
            }
        }
        let declared = declared(message.path(), message.parent_file().index());
        messages.insert(message.full_name().to_owned(), (declared, message));
    }
    let (messages, message_index) = ordered(messages);
    let (enums, enum_index) = ordered(enums);
    Used { messages, enums, message_index, enum_index }
}

/// The field itself, or a map's value.
pub(super) fn value_field(field: &FieldDescriptor) -> FieldDescriptor {
    entry_field(field, 2).unwrap_or_else(|| field.clone())
}

/// A map's key.
pub(super) fn key_field(field: &FieldDescriptor) -> Option<FieldDescriptor> {
    entry_field(field, 1)
}

fn entry_field(field: &FieldDescriptor, number: u32) -> Option<FieldDescriptor> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.get_field(number),
        _ => None,
    }
}

fn declared(path: &[i32], file: usize) -> Declared {
    (path.len(), file, path.to_vec())
}

fn ordered<T>(found: BTreeMap<String, (Declared, T)>) -> (Vec<T>, BTreeMap<String, usize>) {
    let mut all: Vec<(String, (Declared, T))> = found.into_iter().collect();
    all.sort_by(|(_, (one, _)), (_, (other, _))| one.cmp(other));
    let index = all.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    (all.into_iter().map(|(_, (_, item))| item).collect(), index)
}
