//! The WIT names of packages, interfaces, types, functions and resources.

use super::{Kind, MessageIndex, Schema, Service, Slot, Stream};
use crate::kebab::{Names, kebab};
use crate::schema::graph;
use std::collections::{BTreeMap, BTreeSet};

/// The WIT package of a proto package: `com.example.v1` is `com:example-v1`.
pub(super) fn wit_package(package: &str) -> String {
    match package.split_once('.') {
        Some((first, rest)) => format!("{}:{}", kebab(first), kebab(rest)),
        None if package.is_empty() => "proto:root".to_owned(),
        None => format!("proto:{}", kebab(package)),
    }
}

/// The name of a type before anything is told apart: its full name without the package.
pub(super) fn type_label(full_name: &str, package: &str) -> String {
    let rest = full_name.strip_prefix(package).unwrap_or(full_name);
    kebab(rest)
}

/// Fills in everything that depends on what else is in the schema.
pub(super) fn assign(schema: &mut Schema) {
    schema.interfaces = interfaces(schema);
    let all: BTreeSet<String> = schema.interfaces.values().cloned().collect();
    for interface in all {
        assign_types(schema, &interface);
    }
    let messages: Vec<String> = schema.messages.iter().map(|message| message.wit_name.clone()).collect();
    for service in &mut schema.services {
        assign_streams(service, &messages);
    }
}

/// Each package's interface. Packages whose types hold each other share the interface of the first of them by name.
fn interfaces(schema: &Schema) -> BTreeMap<String, String> {
    let messages = schema.messages.iter().map(|message| message.package.as_str());
    let packages: BTreeSet<&str> =
        messages.chain(schema.enums.iter().map(|one| one.package.as_str())).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let mut edges: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); packages.len()];
    for message in &schema.messages {
        let Ok(from) = packages.binary_search(&message.package.as_str()) else { continue };
        for field in message.fields() {
            let target = match field.kind {
                Kind::Message(index) => schema.message(index).map(|inner| inner.package.as_str()),
                Kind::Enum(index) => schema.enumeration(index).map(|inner| inner.package.as_str()),
                _ => None,
            };
            if let (Some(out), Some(Ok(to))) =
                (edges.get_mut(from), target.map(|target| packages.binary_search(&target)))
            {
                out.insert(to);
            }
        }
    }
    let edges: Vec<Vec<usize>> = edges.into_iter().map(|out| out.into_iter().collect()).collect();
    let component = graph::components(&edges);
    let mut first: BTreeMap<usize, &str> = BTreeMap::new();
    for (package, component) in packages.iter().zip(&component) {
        first.entry(*component).or_insert(package);
    }
    let leaders: BTreeSet<&str> = first.values().copied().collect();
    let leaders: Vec<&str> = leaders.into_iter().collect();
    let labels: Vec<String> = leaders.iter().map(|package| types_label(package)).collect();
    let mut names = Names::default();
    for service in &schema.services {
        for taken in [&service.wit_name, &service.wit_streams, &service.wit_world] {
            names.reserve(taken.as_str());
        }
    }
    let named: BTreeMap<&str, String> =
        leaders.iter().copied().zip(names.assign(labels.iter().map(String::as_str))).collect();
    packages
        .iter()
        .zip(&component)
        .filter_map(|(package, component)| {
            Some(((*package).to_owned(), named.get(first.get(component)?)?.clone()))
        })
        .collect()
}

/// `com.example` is `com-example-types`.
fn types_label(package: &str) -> String {
    if package.is_empty() { "types".to_owned() } else { format!("{}-types", kebab(package)) }
}

/// Types of one interface, each with a name of its own: messages and enums first, oneofs by the message they are in.
fn assign_types(schema: &mut Schema, interface: &str) {
    let mut names = Names::default();
    let interfaces = &schema.interfaces;
    let inside = |package: &String| interfaces.get(package).is_some_and(|one| one == interface);
    let mut slots: Vec<&mut String> = Vec::new();
    let mut oneofs = Vec::new();
    for message in schema.messages.iter_mut().filter(|message| inside(&message.package)) {
        slots.push(&mut message.wit_name);
        oneofs.push(&mut message.slots);
    }
    let count = slots.len();
    slots.extend(schema.enums.iter_mut().filter(|one| inside(&one.package)).map(|one| &mut one.wit_name));
    let labels: Vec<String> = slots.iter().map(|slot| (**slot).clone()).collect();
    let assigned = names.assign(labels.iter().map(String::as_str));
    for (slot, name) in slots.into_iter().zip(&assigned) {
        slot.clone_from(name);
    }
    let mut variants: Vec<(String, &mut String)> = Vec::new();
    for (slots, owner) in oneofs.into_iter().zip(assigned.iter().take(count)) {
        for slot in slots {
            if let Slot::Oneof { wit_name, wit_type, .. } = slot {
                variants.push((format!("{owner}-{wit_name}"), wit_type));
            }
        }
    }
    let labels: Vec<String> = variants.iter().map(|(label, _)| label.clone()).collect();
    let assigned = names.assign(labels.iter().map(String::as_str));
    for ((_, slot), name) in variants.into_iter().zip(assigned) {
        *slot = name;
    }
}

/// Names within one scope, such as the fields of a record.
pub(super) fn members<'a>(proto_names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let labels: Vec<String> = proto_names.into_iter().map(kebab).collect();
    Names::default().assign(labels.iter().map(String::as_str))
}

fn assign_streams(service: &mut Service, messages: &[String]) {
    let streamed = |wanted: fn(&super::Method) -> Option<MessageIndex>| -> Vec<MessageIndex> {
        let set: BTreeSet<MessageIndex> = service.methods.iter().filter_map(wanted).collect();
        set.into_iter().collect()
    };
    let read = streamed(|method| method.client_streaming.then_some(method.input));
    let written = streamed(|method| method.server_streaming.then_some(method.output));
    let name_of = |index: &MessageIndex| {
        usize::try_from(index.0).ok().and_then(|at| messages.get(at)).cloned().unwrap_or_default()
    };
    let mut names = Names::default();
    names.reserve("status");
    let labels: Vec<String> = read
        .iter()
        .map(|index| format!("{}-reader", name_of(index)))
        .chain(written.iter().map(|index| format!("{}-writer", name_of(index))))
        .collect();
    let mut assigned = names.assign(labels.iter().map(String::as_str)).into_iter();
    let mut streams = |of: Vec<MessageIndex>| -> Vec<Stream> {
        of.into_iter()
            .zip(assigned.by_ref())
            .map(|(message, wit_name)| Stream { message, wit_name })
            .collect()
    };
    service.readers = streams(read);
    service.writers = streams(written);
}
