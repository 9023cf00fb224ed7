//! Fields that lead back to their own message, which go through a component as bytes, and descriptors that say so.

use prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MessageDescriptor,
    prost::Message as _,
    prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type},
};
/// Whether a component sees this field as bytes. Told from the descriptors alone: the schema's own way is what is tested.
pub(crate) fn is_boxed(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(inner) if !field.is_map() => reaches(&inner, field.parent_message()),
        _ => false,
    }
}

fn reaches(from: &MessageDescriptor, to: &MessageDescriptor) -> bool {
    reached(from).contains(to)
}

/// A message and all messages within it.
pub(crate) fn reached(from: &MessageDescriptor) -> Vec<MessageDescriptor> {
    let (mut found, mut open) = (Vec::new(), vec![from.clone()]);
    while let Some(message) = open.pop() {
        if !found.contains(&message) {
            open.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
            found.push(message);
        }
    }
    found
}

/// A descriptor set in which these fields are of type `bytes`. What it refuses, a component cannot be given; what it
/// takes although the true descriptors do not, is wrong within such a field.
pub(crate) fn boxed(pool: &DescriptorPool, set: &[u8]) -> Vec<u8> {
    let mut set = FileDescriptorSet::decode(set).unwrap();
    for file in &mut set.file {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            change(pool, &package, message);
        }
    }
    set.encode_to_vec()
}

fn change(pool: &DescriptorPool, around: &str, message: &mut DescriptorProto) {
    let name = format!("{around}.{}", message.name());
    let described = pool.get_message_by_name(&name).unwrap();
    for field in &mut message.field {
        if is_boxed(&described.get_field(field.number().unsigned_abs()).unwrap()) {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
    for inner in &mut message.nested_type {
        change(pool, &name, inner);
    }
}
