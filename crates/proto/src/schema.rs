//! What a set of `.proto` files means to a component: the one model behind the generated WIT, the check of a component at
//! its push, and the codec that turns wire bytes into component values.
//!
//! The rules, in one place (docs/reference/proto-wit.md says the same for users):
//!
//! | proto | component |
//! |---|---|
//! | scalar | its WIT type: `s32`, `u64`, `f32`, `bool`, `string`, `list<u8>` … |
//! | `optional`, proto2 singular, singular message | `option<T>` |
//! | `required` | `T`; a message without it is malformed |
//! | `repeated` | `list<T>` |
//! | `map<K, V>` | `list<tuple<K, V>>`, each key once |
//! | `oneof` | `option<variant>` |
//! | message | record; without fields, an enum of one case |
//! | enum | enum; a number that is not in it is skipped like an unknown field |
//! | a message field that leads back to its own message | its encoded bytes, `list<u8>`: WIT has no recursive types |
//! | group | refused |
//!
//! Everything is in vectors with indices, so that the request path follows no map and hashes no name.

mod build;
mod collect;
mod graph;
mod names;
mod size;

use crate::fault::Fault;
use prost_reflect::DescriptorPool;
use std::collections::BTreeMap;

/// Index into [`Schema::messages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageIndex(pub u32);

/// Index into [`Schema::enums`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnumIndex(pub u32);

/// Every service of a set of files, with all that they use.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Services of the files that were named (not of their imports), in the files' order.
    pub services: Vec<Service>,
    /// Messages that services use, directly or not; map entries are not among them.
    pub messages: Vec<Message>,
    /// Enums that these use.
    pub enums: Vec<Enum>,
    /// The WIT interface in which each proto package's types stand. Packages that use each other share one: interfaces
    /// can't.
    pub interfaces: BTreeMap<String, String>,
}

/// One gRPC service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Full name, `com.example.HelloWorld`.
    pub name: String,
    /// The WIT package of the service's world and interfaces, `com:example`.
    pub wit_package: String,
    /// The WIT interface that a component exports, `hello-world`.
    pub wit_name: String,
    /// The WIT interface of its streams' resources, `hello-world-streams`; there only if a method streams.
    pub wit_streams: String,
    /// The WIT world, `hello-world-server`.
    pub wit_world: String,
    /// Its methods, in the file's order.
    pub methods: Vec<Method>,
    /// The resources that streamed requests are read from, one for each message type, by message.
    pub readers: Vec<Stream>,
    /// The resources that streamed replies are written to, one for each message type, by message.
    pub writers: Vec<Stream>,
}

/// A resource of a service's streams interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What the stream is of.
    pub message: MessageIndex,
    /// The resource, `hello-request-reader` or `hello-response-writer`.
    pub wit_name: String,
}

/// One method.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// Its name, `SayHello`.
    pub name: String,
    /// The exported function, `say-hello`.
    pub wit_name: String,
    /// What it is sent.
    pub input: MessageIndex,
    /// What it answers.
    pub output: MessageIndex,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
}

/// One message: a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Full name, `com.example.HelloRequest`.
    pub name: String,
    /// Proto package, `com.example`: its types are one WIT interface.
    pub package: String,
    /// Record's name, `hello-request`, unique in its interface.
    pub wit_name: String,
    /// The record's fields, in the order in which the file declares them; a oneof stands where its first member does.
    pub slots: Vec<Slot>,
    /// Where a field number is found; sorted by number.
    pub numbers: Vec<(u32, Place)>,
}

/// Where a field is found in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Message::slots`].
    pub slot: u32,
    /// Index into the cases of a oneof; 0 otherwise.
    pub case: u32,
}

/// One field of the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Slot {
    /// A field.
    Field(Field),
    /// A oneof: a variant, or nothing.
    Oneof {
        /// Its name.
        name: String,
        /// The record field's name.
        wit_name: String,
        /// The variant's type name, unique in its interface.
        wit_type: String,
        /// Its cases; each is [`Presence::Oneof`].
        cases: Vec<Field>,
    },
}

/// One proto field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its number, 1 to 536,870,911.
    pub number: u32,
    /// Its name in the file.
    pub name: String,
    /// The record field's or variant case's name.
    pub wit_name: String,
    /// What one value is.
    pub kind: Kind,
    /// How many there may be, and how none is told.
    pub presence: Presence,
}

/// How many values a field may have, and how none is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// One; none is the zero value, and the zero value is not written (proto3).
    Implicit,
    /// One or none: `option<T>`.
    Explicit,
    /// Exactly one (proto2 `required`).
    Required,
    /// A member of a oneof.
    Oneof,
    /// Any number: `list<T>`.
    Repeated {
        /// Whether they are written packed; both forms are read.
        packed: bool,
    },
    /// A map: `list<tuple<K, V>>`. The field's kind is that of the value.
    Map {
        /// What a key is; never a float, bytes, enum or message.
        key: Kind,
    },
}

/// What one value is: the wire form and the component's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are protobuf's own")]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumIndex),
    Message(MessageIndex),
    /// A message that leads back to the one that holds it: its encoded bytes.
    Encoded(MessageIndex),
}

/// One enum.
#[derive(Debug, Clone, PartialEq)]
pub struct Enum {
    /// Full name.
    pub name: String,
    /// Proto package.
    pub package: String,
    /// Type's name, unique in its interface.
    pub wit_name: String,
    /// Cases in the file's order; of several names for one number, the first.
    pub cases: Vec<EnumCase>,
    /// Number to index into `cases`; sorted by number.
    pub numbers: Vec<(i32, u32)>,
    /// The case of a field that is not there: the first.
    pub default: u32,
}

/// One case of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumCase {
    /// Its name in the file.
    pub name: String,
    /// The case's name, `color-red`.
    pub wit_name: String,
    /// Its number.
    pub number: i32,
}

impl Schema {
    /// What the services of these files of the pool mean to a component.
    ///
    /// Name the one file that declares the service: a name that two things would share is told apart within what the
    /// services of the named files use, so that other files named beside it could change a component's names.
    ///
    /// # Errors
    /// Everything that a component can't be written for, each with its place: a file that isn't in the pool, files without
    /// a service, groups, more than [`crate::limits`] allows.
    pub fn build<S: AsRef<str>>(pool: &DescriptorPool, files: &[S]) -> Result<Schema, Vec<Fault>> {
        build::build(pool, files)
    }

    /// The same for the file that declares this service: what bindings, checks and calls of one service go by.
    ///
    /// # Errors
    /// As [`Schema::build`], and a service that isn't in the pool.
    pub fn of_service(pool: &DescriptorPool, service: &str) -> Result<Schema, Vec<Fault>> {
        let Some(found) = pool.get_service_by_name(service) else {
            return Err(vec![build::unknown_service(pool, service)]);
        };
        build::build(pool, &[found.parent_file().name()])
    }

    /// A message by its index; `None` only for an index of another schema.
    #[must_use]
    pub fn message(&self, index: MessageIndex) -> Option<&Message> {
        self.messages.get(usize::try_from(index.0).ok()?)
    }

    /// An enum by its index; `None` only for an index of another schema.
    #[must_use]
    pub fn enumeration(&self, index: EnumIndex) -> Option<&Enum> {
        self.enums.get(usize::try_from(index.0).ok()?)
    }

    /// A service by its full name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The WIT interface of a proto package's types; empty only for a package of another schema.
    #[must_use]
    pub fn interface(&self, package: &str) -> &str {
        self.interfaces.get(package).map(String::as_str).unwrap_or_default()
    }
}

impl Enum {
    /// The case of a number, if it has one.
    #[must_use]
    pub fn case(&self, number: i32) -> Option<&EnumCase> {
        let at = self.numbers.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        let (_, case) = self.numbers.get(at)?;
        self.cases.get(usize::try_from(*case).ok()?)
    }

    /// The case of a field that is not there; `None` only for an enum without cases, which protobuf does not have.
    #[must_use]
    pub fn default_case(&self) -> Option<&EnumCase> {
        self.cases.get(usize::try_from(self.default).ok()?)
    }
}

impl Message {
    /// Where the field of this number is.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place> {
        let at = self.numbers.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        self.numbers.get(at).map(|(_, place)| *place)
    }
}

impl Message {
    /// Every field: those that stand alone and those in oneofs, in slot order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.slots.iter().flat_map(|slot| match slot {
            Slot::Field(field) => std::slice::from_ref(field).iter(),
            Slot::Oneof { cases, .. } => cases.iter(),
        })
    }
}

impl Method {
    /// Whether either side streams.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.client_streaming || self.server_streaming
    }
}

#[cfg(test)]
mod tests;
