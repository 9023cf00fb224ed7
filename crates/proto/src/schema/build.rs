//! From descriptors to the schema.

use super::collect::{Used, key_field, used, value_field};
use super::{
    Enum, EnumCase, EnumIndex, Field, Kind, Message, MessageIndex, Method, Place, Presence, Schema, Service,
    Slot, graph, names, size,
};
use crate::docs::Places;
use crate::fault::Fault;
use crate::kebab::kebab;
use crate::limits;
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind as ProtoKind,
    MessageDescriptor, ServiceDescriptor,
};
use std::collections::BTreeMap;

pub(super) fn build<S: AsRef<str>>(pool: &DescriptorPool, files: &[S]) -> Result<Schema, Vec<Fault>> {
    let services = services_of(pool, files)?;
    let used = used(&services);
    let mut faults = Vec::new();
    let mut schema = Schema {
        services: services.iter().map(|one| service(one, &used)).collect(),
        messages: used.messages.iter().map(|one| message(one, &used, &mut faults)).collect(),
        enums: used.enums.iter().map(|one| enumeration(one, &mut faults)).collect(),
        interfaces: BTreeMap::new(),
    };
    let order = box_recursion(&mut schema.messages);
    faults.extend(oversize(&schema, &used, &order));
    if !faults.is_empty() {
        return Err(faults);
    }
    names::assign(&mut schema);
    Ok(schema)
}

/// A service that isn't there, with those that are.
pub(super) fn unknown_service(pool: &DescriptorPool, service: &str) -> Fault {
    let known: Vec<String> = pool.services().take(10).map(|one| one.full_name().to_owned()).collect();
    let hint = if known.is_empty() {
        "no file declares a service".to_owned()
    } else {
        format!("there is {}", known.join(", "))
    };
    Fault::of_file("", format!("service \"{service}\" is not declared")).hint(hint)
}

fn services_of<S: AsRef<str>>(
    pool: &DescriptorPool,
    files: &[S],
) -> Result<Vec<ServiceDescriptor>, Vec<Fault>> {
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for name in files {
        match pool.get_file_by_name(name.as_ref()) {
            Some(file) => services.extend(file.services()),
            None => faults.push(Fault::of_file(name.as_ref(), "the file is not among the descriptors")),
        }
    }
    if faults.is_empty() && services.is_empty() {
        let first = files.first().map(AsRef::as_ref).unwrap_or_default();
        faults.push(
            Fault::of_file(first, "no service is declared here")
                .hint("a component implements a service: declare one, or name the file that does"),
        );
    }
    if faults.is_empty() { Ok(services) } else { Err(faults) }
}

fn service(one: &ServiceDescriptor, used: &Used) -> Service {
    let wit_name = kebab(one.name());
    let functions = names::members(
        one.methods().map(|method| method.name().to_owned()).collect::<Vec<_>>().iter().map(String::as_str),
    );
    let methods = one
        .methods()
        .zip(functions)
        .map(|(method, wit_name)| Method {
            name: method.name().to_owned(),
            wit_name,
            input: MessageIndex(index_of(&used.message_index, method.input().full_name())),
            output: MessageIndex(index_of(&used.message_index, method.output().full_name())),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
        })
        .collect();
    Service {
        name: one.full_name().to_owned(),
        wit_package: names::wit_package(one.package_name()),
        wit_streams: format!("{wit_name}-streams"),
        wit_world: format!("{wit_name}-server"),
        wit_name,
        methods,
        readers: Vec::new(),
        writers: Vec::new(),
    }
}

/// Everything that is used was collected, so that the name is always there; limits keep the number small.
fn index_of(index: &BTreeMap<String, usize>, name: &str) -> u32 {
    index.get(name).and_then(|at| u32::try_from(*at).ok()).unwrap_or_default()
}

fn message(one: &MessageDescriptor, used: &Used, faults: &mut Vec<Fault>) -> Message {
    let mut slots: Vec<Slot> = Vec::new();
    let mut oneofs: BTreeMap<String, usize> = BTreeMap::new();
    for field in declared_fields(one) {
        if field.is_group() {
            faults.push(group(&field));
            continue;
        }
        let real = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let Some(oneof) = real else {
            slots.push(Slot::Field(self::field(&field, used)));
            continue;
        };
        let member = Field { presence: Presence::Oneof, ..self::field(&field, used) };
        match oneofs.get(oneof.name()).and_then(|at| slots.get_mut(*at)) {
            Some(Slot::Oneof { cases, .. }) => cases.push(member),
            _ => {
                oneofs.insert(oneof.name().to_owned(), slots.len());
                slots.push(Slot::Oneof {
                    name: oneof.name().to_owned(),
                    wit_name: String::new(),
                    wit_type: String::new(),
                    cases: vec![member],
                });
            }
        }
    }
    if one.fields().len() > limits::MEMBERS_OF_ONE {
        faults.push(too_many(one.full_name(), "fields", &one.parent_file(), one.path()));
    }
    name_slots(&mut slots);
    Message {
        name: one.full_name().to_owned(),
        package: one.package_name().to_owned(),
        wit_name: names::type_label(one.full_name(), one.package_name()),
        numbers: numbers(&slots),
        slots,
    }
}

/// Fields in the order of the file; the pool has them by number.
fn declared_fields(one: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let declared = one.descriptor_proto().field.iter();
    declared.filter_map(|field| one.get_field(u32::try_from(field.number()).ok()?)).collect()
}

fn name_slots(slots: &mut [Slot]) {
    let assigned = names::members(slots.iter().map(|slot| match slot {
        Slot::Field(field) => field.name.as_str(),
        Slot::Oneof { name, .. } => name.as_str(),
    }));
    for (slot, assigned) in slots.iter_mut().zip(assigned) {
        match slot {
            Slot::Field(field) => field.wit_name = assigned,
            Slot::Oneof { wit_name, cases, .. } => {
                *wit_name = assigned;
                let labels = names::members(cases.iter().map(|case| case.name.as_str()));
                for (case, label) in cases.iter_mut().zip(labels) {
                    case.wit_name = label;
                }
            }
        }
    }
}

fn numbers(slots: &[Slot]) -> Vec<(u32, Place)> {
    let mut numbers: Vec<(u32, Place)> = Vec::new();
    for (slot, at) in slots.iter().zip(0_u32..) {
        match slot {
            Slot::Field(field) => numbers.push((field.number, Place { slot: at, case: 0 })),
            Slot::Oneof { cases, .. } => {
                numbers.extend(
                    cases.iter().zip(0..).map(|(case, of)| (case.number, Place { slot: at, case: of })),
                );
            }
        }
    }
    numbers.sort_by_key(|(number, _)| *number);
    numbers
}

fn field(one: &FieldDescriptor, used: &Used) -> Field {
    Field {
        number: one.number(),
        name: one.name().to_owned(),
        wit_name: String::new(),
        kind: kind(&value_field(one), used),
        presence: presence(one, used),
    }
}

fn presence(one: &FieldDescriptor, used: &Used) -> Presence {
    if let Some(key) = key_field(one) {
        return Presence::Map { key: kind(&key, used) };
    }
    match one.cardinality() {
        Cardinality::Repeated => Presence::Repeated { packed: one.is_packed() },
        Cardinality::Required => Presence::Required,
        Cardinality::Optional if one.supports_presence() => Presence::Explicit,
        Cardinality::Optional => Presence::Implicit,
    }
}

fn kind(one: &FieldDescriptor, used: &Used) -> Kind {
    match one.kind() {
        ProtoKind::Double => Kind::Double,
        ProtoKind::Float => Kind::Float,
        ProtoKind::Int32 => Kind::Int32,
        ProtoKind::Int64 => Kind::Int64,
        ProtoKind::Uint32 => Kind::Uint32,
        ProtoKind::Uint64 => Kind::Uint64,
        ProtoKind::Sint32 => Kind::Sint32,
        ProtoKind::Sint64 => Kind::Sint64,
        ProtoKind::Fixed32 => Kind::Fixed32,
        ProtoKind::Fixed64 => Kind::Fixed64,
        ProtoKind::Sfixed32 => Kind::Sfixed32,
        ProtoKind::Sfixed64 => Kind::Sfixed64,
        ProtoKind::Bool => Kind::Bool,
        ProtoKind::String => Kind::String,
        ProtoKind::Bytes => Kind::Bytes,
        ProtoKind::Enum(inner) => Kind::Enum(EnumIndex(index_of(&used.enum_index, inner.full_name()))),
        ProtoKind::Message(inner) => {
            Kind::Message(MessageIndex(index_of(&used.message_index, inner.full_name())))
        }
    }
}

fn enumeration(one: &EnumDescriptor, faults: &mut Vec<Fault>) -> Enum {
    let mut cases: Vec<EnumCase> = Vec::new();
    let mut numbers: BTreeMap<i32, u32> = BTreeMap::new();
    for value in &one.enum_descriptor_proto().value {
        let at = u32::try_from(cases.len()).unwrap_or(u32::MAX);
        // Of several names for one number the first is the case.
        if numbers.contains_key(&value.number()) {
            continue;
        }
        numbers.insert(value.number(), at);
        cases.push(EnumCase {
            name: value.name().to_owned(),
            wit_name: String::new(),
            number: value.number(),
        });
    }
    let labels = names::members(cases.iter().map(|case| case.name.as_str()));
    for (case, label) in cases.iter_mut().zip(labels) {
        case.wit_name = label;
    }
    if cases.len() > limits::MEMBERS_OF_ONE {
        faults.push(too_many(one.full_name(), "values", &one.parent_file(), one.path()));
    }
    Enum {
        name: one.full_name().to_owned(),
        package: one.package_name().to_owned(),
        wit_name: names::type_label(one.full_name(), one.package_name()),
        cases,
        numbers: numbers.into_iter().collect(),
        default: 0,
    }
}

/// Turns every field that leads back to its own message into encoded bytes, and gives an order in which what a message
/// holds comes before it.
fn box_recursion(messages: &mut [Message]) -> Vec<usize> {
    let target = |kind: Kind| match kind {
        Kind::Message(index) => usize::try_from(index.0).ok(),
        _ => None,
    };
    let edges: Vec<Vec<usize>> = messages
        .iter()
        .map(|message| message.fields().filter_map(|field| target(field.kind)).collect())
        .collect();
    let component = graph::components(&edges);
    for (message, own) in messages.iter_mut().zip(&component) {
        let fields = message.slots.iter_mut().flat_map(|slot| match slot {
            Slot::Field(field) => std::slice::from_mut(field).iter_mut(),
            Slot::Oneof { cases, .. } => cases.iter_mut(),
        });
        for field in fields {
            if let Kind::Message(index) = field.kind
                && target(field.kind).and_then(|at| component.get(at)) == Some(own)
            {
                field.kind = Kind::Encoded(index);
            }
        }
    }
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_by_key(|at| component.get(*at).copied().unwrap_or_default());
    order
}

fn oversize(schema: &Schema, used: &Used, order: &[usize]) -> Vec<Fault> {
    let extents = size::extents(&schema.messages, order);
    let mut faults = Vec::new();
    for at in order {
        let (Some(extent), Some(message)) = (extents.get(*at), used.messages.get(*at)) else { continue };
        if let Some(excess) = extent.excess() {
            let file = message.parent_file();
            faults.push(
                at_path(&file, message.path(), format!("message {}: {excess}", message.full_name()))
                    .hint("hold the largest of its messages as bytes, or split it"),
            );
            // All that hold it are too large as well; the innermost says it best.
            return faults;
        }
    }
    let total = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.size));
    if total > limits::SERVICE_SIZE {
        let file = schema.services.first().map(|service| service.name.clone()).unwrap_or_default();
        let what = format!(
            "service {file}: its messages written out are {total} values large; the limit is {}",
            limits::SERVICE_SIZE
        );
        faults.push(Fault::of_file("", what).hint("split the service, or hold large messages as bytes"));
    }
    faults
}

fn group(field: &FieldDescriptor) -> Fault {
    let message = field.parent_message();
    at_path(&message.parent_file(), field.path(), format!("field {} is a group", field.full_name()))
        .hint("groups are not supported, protobuf itself gave them up: declare a message and a field of it")
}

fn too_many(name: &str, members: &str, file: &FileDescriptor, path: &[i32]) -> Fault {
    at_path(file, path, format!("{name} has more than {} {members}", limits::MEMBERS_OF_ONE))
}

fn at_path(file: &FileDescriptor, path: &[i32], what: String) -> Fault {
    Fault { position: Places::of(file).position(path), ..Fault::of_file(file.name(), what) }
}
