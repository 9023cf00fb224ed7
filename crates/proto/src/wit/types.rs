//! Messages, oneofs and enums as WIT types.

use super::Text;
use super::scope::Scope;
use crate::docs::Docs;
use crate::kebab::escape;
use crate::schema::{Enum, EnumIndex, Field, Kind, Message, MessageIndex, Presence, Schema, Service, Slot};
use std::collections::BTreeSet;

/// What one service uses.
pub(super) struct Reached {
    messages: BTreeSet<MessageIndex>,
    enums: BTreeSet<EnumIndex>,
}

impl Reached {
    /// The interfaces that these stand in, by name.
    pub(super) fn interfaces<'a>(&self, schema: &'a Schema) -> BTreeSet<&'a str> {
        let messages =
            self.messages.iter().filter_map(|index| schema.message(*index)).map(|one| &one.package);
        let enums = self.enums.iter().filter_map(|index| schema.enumeration(*index)).map(|one| &one.package);
        messages.chain(enums).map(|package| schema.interface(package)).collect()
    }
}

/// The messages and enums of a service's methods and of what these hold.
pub(super) fn reached(schema: &Schema, service: &Service) -> Reached {
    let mut reached = Reached { messages: BTreeSet::new(), enums: BTreeSet::new() };
    let mut open: Vec<MessageIndex> =
        service.methods.iter().flat_map(|method| [method.input, method.output]).collect();
    while let Some(index) = open.pop() {
        if !reached.messages.insert(index) {
            continue;
        }
        for field in schema.message(index).into_iter().flat_map(Message::fields) {
            match field.kind {
                Kind::Message(inner) => open.push(inner),
                Kind::Enum(inner) => {
                    reached.enums.insert(inner);
                }
                _ => {}
            }
        }
    }
    reached
}

/// One interface with the types of a package.
pub(super) fn interface(text: &mut Text, schema: &Schema, docs: &Docs, reached: &Reached, name: &str) {
    let messages: Vec<(MessageIndex, &Message)> = reached
        .messages
        .iter()
        .filter_map(|index| Some((*index, schema.message(*index)?)))
        .filter(|(_, message)| schema.interface(&message.package) == name)
        .collect();
    let enums: Vec<(EnumIndex, &Enum)> = reached
        .enums
        .iter()
        .filter_map(|index| Some((*index, schema.enumeration(*index)?)))
        .filter(|(_, one)| schema.interface(&one.package) == name)
        .collect();
    let types = Types::new(schema, docs, name, &messages, &enums);
    text.blank();
    text.open(&format!("interface {}", escape(name)));
    types.scope.write_uses(text);
    for (_, one) in enums {
        types.enumeration(text, one);
    }
    for (_, message) in messages {
        types.message(text, message);
    }
    text.close();
}

/// The types of one interface.
struct Types<'a> {
    schema: &'a Schema,
    docs: &'a Docs,
    interface: &'a str,
    scope: Scope,
}

impl<'a> Types<'a> {
    fn new(
        schema: &'a Schema,
        docs: &'a Docs,
        interface: &'a str,
        messages: &[(MessageIndex, &'a Message)],
        enums: &[(EnumIndex, &'a Enum)],
    ) -> Types<'a> {
        let variants =
            messages.iter().flat_map(|(_, message)| &message.slots).filter_map(|slot| match slot {
                Slot::Oneof { wit_type, .. } => Some(wit_type.as_str()),
                Slot::Field(_) => None,
            });
        let own = messages.iter().map(|(_, message)| message.wit_name.as_str());
        let mut scope =
            Scope::new(own.chain(enums.iter().map(|(_, one)| one.wit_name.as_str())).chain(variants));
        let fields = || messages.iter().flat_map(|(_, message)| message.fields());
        let foreign_messages: BTreeSet<MessageIndex> = fields()
            .filter_map(|field| match field.kind {
                Kind::Message(index) => Some(index),
                _ => None,
            })
            .filter(|index| {
                schema.message(*index).is_some_and(|one| schema.interface(&one.package) != interface)
            })
            .collect();
        let foreign_enums: BTreeSet<EnumIndex> = fields()
            .filter_map(|field| match field.kind {
                Kind::Enum(index) => Some(index),
                _ => None,
            })
            .filter(|index| {
                schema.enumeration(*index).is_some_and(|one| schema.interface(&one.package) != interface)
            })
            .collect();
        scope.messages(schema, foreign_messages);
        scope.enums(schema, foreign_enums);
        Types { schema, docs, interface, scope }
    }

    fn enumeration(&self, text: &mut Text, one: &Enum) {
        text.blank();
        text.docs(self.docs.get(&one.name));
        text.open(&format!("enum {}", escape(&one.wit_name)));
        // Values of an enum are named beside it, not in it.
        let scope = one.name.rsplit_once('.').map(|(scope, _)| format!("{scope}.")).unwrap_or_default();
        for case in &one.cases {
            text.docs(self.docs.get(&format!("{scope}{}", case.name)));
            text.line(&format!("{},", escape(&case.wit_name)));
        }
        text.close();
    }

    fn message(&self, text: &mut Text, message: &Message) {
        for slot in &message.slots {
            if let Slot::Oneof { name, wit_type, cases, .. } = slot {
                text.blank();
                text.docs(self.docs.get(&format!("{}.{name}", message.name)));
                text.open(&format!("variant {}", escape(wit_type)));
                for case in cases {
                    self.field_docs(text, message, case);
                    text.line(&format!("{}({}),", escape(&case.wit_name), self.value(case)));
                }
                text.close();
            }
        }
        text.blank();
        text.docs(self.docs.get(&message.name));
        if message.slots.is_empty() {
            text.open(&format!("enum {}", escape(&message.wit_name)));
            text.line("empty,");
            text.close();
            return;
        }
        text.open(&format!("record {}", escape(&message.wit_name)));
        for slot in &message.slots {
            match slot {
                Slot::Field(field) => {
                    self.field_docs(text, message, field);
                    text.line(&format!("{}: {},", escape(&field.wit_name), self.value(field)));
                }
                Slot::Oneof { wit_name, wit_type, .. } => {
                    text.line(&format!("{}: option<{}>,", escape(wit_name), escape(wit_type)));
                }
            }
        }
        text.close();
    }

    fn field_docs(&self, text: &mut Text, message: &Message, field: &Field) {
        text.docs(self.docs.get(&format!("{}.{}", message.name, field.name)));
        if let Kind::Encoded(index) = field.kind
            && let Some(inner) = self.schema.message(index)
        {
            text.line(&format!("/// An encoded `{}`: no type of WIT can hold itself.", inner.name));
        }
    }

    /// The type of a field as its presence makes it.
    fn value(&self, field: &Field) -> String {
        let one = self.kind(field.kind);
        match field.presence {
            Presence::Implicit | Presence::Required | Presence::Oneof => one,
            Presence::Explicit => format!("option<{one}>"),
            Presence::Repeated { .. } => format!("list<{one}>"),
            Presence::Map { key } => format!("list<tuple<{}, {one}>>", self.kind(key)),
        }
    }

    fn kind(&self, kind: Kind) -> String {
        match kind {
            Kind::Double => "f64".to_owned(),
            Kind::Float => "f32".to_owned(),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "s32".to_owned(),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "s64".to_owned(),
            Kind::Uint32 | Kind::Fixed32 => "u32".to_owned(),
            Kind::Uint64 | Kind::Fixed64 => "u64".to_owned(),
            Kind::Bool => "bool".to_owned(),
            Kind::String => "string".to_owned(),
            Kind::Bytes | Kind::Encoded(_) => "list<u8>".to_owned(),
            Kind::Enum(index) => match self.schema.enumeration(index) {
                Some(one) if self.schema.interface(&one.package) == self.interface => {
                    escape(&one.wit_name).into_owned()
                }
                _ => self.scope.enum_name(index),
            },
            Kind::Message(index) => match self.schema.message(index) {
                Some(one) if self.schema.interface(&one.package) == self.interface => {
                    escape(&one.wit_name).into_owned()
                }
                _ => self.scope.message_name(index),
            },
        }
    }
}
