//! What one interface uses of others, and the names that these have inside it: WIT gives types and functions of an
//! interface one set of names, so that some have to be renamed on the way in.

use super::{CALL_INTERFACE, Text};
use crate::kebab::{Names, escape};
use crate::schema::{EnumIndex, MessageIndex, Schema};
use std::collections::BTreeMap;

/// What a name in this scope stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Call(&'static str),
    Message(MessageIndex),
    Enum(EnumIndex),
    Resource(String),
}

/// One thing that is used.
struct Use {
    item: Item,
    interface: String,
    name: String,
    local: String,
}

/// The names inside one interface.
pub(super) struct Scope {
    names: Names,
    own: Vec<String>,
    uses: Vec<Use>,
}

impl Scope {
    /// A scope in which these names are already something else.
    pub(super) fn new<'a>(own: impl IntoIterator<Item = &'a str>) -> Scope {
        let own: Vec<String> = own.into_iter().map(str::to_owned).collect();
        let mut names = Names::default();
        for name in &own {
            names.reserve(name.as_str());
        }
        Scope { names, own, uses: Vec::new() }
    }

    /// Uses types of `tutti:grpc/call`.
    pub(super) fn call(&mut self, types: &[&'static str]) {
        for name in types {
            self.add(Item::Call(name), CALL_INTERFACE, name, "call");
        }
    }

    /// Uses messages of the schema.
    pub(super) fn messages(&mut self, schema: &Schema, messages: impl IntoIterator<Item = MessageIndex>) {
        for index in messages {
            if let Some(message) = schema.message(index) {
                let interface = schema.interface(&message.package);
                self.add(Item::Message(index), interface, &message.wit_name, interface);
            }
        }
    }

    /// Uses enums of the schema.
    pub(super) fn enums(&mut self, schema: &Schema, enums: impl IntoIterator<Item = EnumIndex>) {
        for index in enums {
            if let Some(one) = schema.enumeration(index) {
                let interface = schema.interface(&one.package);
                self.add(Item::Enum(index), interface, &one.wit_name, interface);
            }
        }
    }

    /// Uses resources of a streams interface.
    pub(super) fn resources<'a>(&mut self, interface: &str, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.add(Item::Resource(name.to_owned()), interface, name, "stream");
        }
    }

    /// Adds one under its own name, or under a longer one where that is taken.
    fn add(&mut self, item: Item, interface: &str, name: &str, prefix: &str) {
        let taken = self.own.iter().any(|own| own == name) || self.uses.iter().any(|one| one.local == name);
        let label = if taken { format!("{prefix}-{name}") } else { name.to_owned() };
        let local = self.names.assign([label.as_str()]).pop().unwrap_or(label);
        self.uses.push(Use { item, interface: interface.to_owned(), name: name.to_owned(), local });
    }

    pub(super) fn call_name(&self, name: &'static str) -> String {
        self.name(&Item::Call(name))
    }

    pub(super) fn message_name(&self, index: MessageIndex) -> String {
        self.name(&Item::Message(index))
    }

    pub(super) fn enum_name(&self, index: EnumIndex) -> String {
        self.name(&Item::Enum(index))
    }

    pub(super) fn resource_name(&self, name: &str) -> String {
        self.name(&Item::Resource(name.to_owned()))
    }

    fn name(&self, item: &Item) -> String {
        let found = self.uses.iter().find(|one| one.item == *item);
        found.map(|one| escape(&one.local).into_owned()).unwrap_or_default()
    }

    /// One `use` for each interface, in the order in which they were first needed.
    pub(super) fn write_uses(&self, text: &mut Text) {
        let mut order: Vec<&str> = Vec::new();
        let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for one in &self.uses {
            if !order.contains(&one.interface.as_str()) {
                order.push(&one.interface);
            }
            let name = escape(&one.name);
            lists.entry(&one.interface).or_default().push(if one.local == one.name {
                name.into_owned()
            } else {
                format!("{name} as {}", escape(&one.local))
            });
        }
        for interface in order {
            let list = lists.get(interface).map(|list| list.join(", ")).unwrap_or_default();
            let path =
                if interface.contains(':') { interface.to_owned() } else { escape(interface).into_owned() };
            text.line(&format!("use {path}.{{{list}}};"));
        }
    }
}
