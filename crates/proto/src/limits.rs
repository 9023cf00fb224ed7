//! Bounds on what a descriptor set may hold, with the reason for each number.
//!
//! A set that is read from a registry was written by a stranger: everything that is later walked, named or compiled from
//! it is bounded here.

/// Largest serialized descriptor set, in bytes: the whole of the public Google Cloud API is about 20 MiB with its
/// comments, one product of it well below 4.
pub const SET_BYTES: usize = 4 * 1024 * 1024;
/// Most files in a set: a large product with all its imports has a few hundred.
pub const FILES: usize = 1024;
/// Most messages in a set, nested ones and map entries among them.
pub const MESSAGES: usize = 20_000;
/// Most fields, enum values, oneofs, extensions and methods in a set, together.
pub const MEMBERS: usize = 200_000;
/// Most fields of one message and cases of one enum: a component's record may have 10,000.
pub const MEMBERS_OF_ONE: usize = 10_000;
/// Longest identifier, in bytes, and longest package.
pub const NAME_BYTES: usize = 512;
/// Deepest nesting of a message declared in another: what `protoc` itself allows is 32.
pub const DECLARED_DEPTH: usize = 32;
/// Deepest nesting of a message's types as WIT has them (records, options, lists, tuples, variants), recursion left aside,
/// which is boxed: engines refuse a component past 100, of which the function and its result take some.
pub const TYPE_DEPTH: u32 = 90;
/// Most values that one message holds when every message in it is written out, lists and maps with one entry: a component
/// whose types are larger than a million is refused by every engine, and a record of this many is 100 KiB and more in the
/// guest's memory.
pub const VALUE_SIZE: u64 = 10_000;
/// The same for all messages of a service together: an interface is measured with all its types written out, three times
/// over (types, streams, functions), and must stay below a million.
pub const SERVICE_SIZE: u64 = 200_000;
/// Largest component that is checked, in bytes: componentize-py's are 18 MiB.
pub const COMPONENT_BYTES: usize = 128 * 1024 * 1024;
