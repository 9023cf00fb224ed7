//! Protobuf's JSON mapping, by descriptor: JSON text to the bytes of a message and back.
//!
//! JSON is read in one pass straight into bytes, and bytes are written straight out as JSON: neither way builds a tree,
//! so a request takes no more memory than a few times its length. What is read comes from a stranger and what is written
//! from a guest, so depth, length and the nesting of `Any` are bounded.
//!
//! Reading follows the mapping's page strictly where it leaves a choice: a name that is given twice, two members of one
//! oneof, `null` in a list and an unknown name are refused. Extensions and groups have no JSON here.

mod number;
mod read;
mod reader;
mod text;
mod time;
mod write;

pub use read::append_json;
pub(crate) use read::delimited;
pub use text::{FromText, append_text};

use prost_reflect::MessageDescriptor;
use std::fmt;
use tutti_model::{ErrorCode, Problem};

/// Deepest nesting of JSON and of messages: protobuf's own decoders stop at 100.
pub const DEPTH: u32 = 100;
/// Deepest nesting of `Any` in `Any`. The type of one may stand behind its fields, so each level is looked through once
/// more.
pub const ANY_DEPTH: u32 = 8;
/// Longest JSON that is written, in bytes. A field of two bytes can have a name of hundreds, so that the length of a
/// message says little of its JSON: this is 16 times the default limit of a message.
pub const WRITTEN_BYTES: usize = 16 * 1024 * 1024;

/// What becomes of names and enum values that the message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// They are refused.
    #[default]
    Refuse,
    /// They are left out.
    Ignore,
}

/// JSON that is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFault {
    /// Line, from 1; 0 where the text did not come as JSON (a query parameter).
    pub line: u32,
    /// Column in characters, from 1; 0 as for the line.
    pub column: u32,
    /// The field, as in `items[2].price`; empty for the message itself.
    pub path: String,
    /// What is wrong: lower case, without a full stop.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for JsonFault {}

impl From<JsonFault> for Problem {
    fn from(fault: JsonFault) -> Problem {
        let problem = Problem::new(ErrorCode::Invalid, fault.to_string());
        match fault.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// Why a message has no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The bytes are not the message.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// A value that JSON has no form for, such as a date before the year 1.
    #[error("the message has no JSON: {0}")]
    NoForm(String),
    /// Messages are nested deeper than [`DEPTH`].
    #[error("the message is nested deeper than {DEPTH}")]
    Deep,
    /// The JSON would be longer than [`WRITTEN_BYTES`].
    #[error("the message is longer than {WRITTEN_BYTES} bytes as JSON")]
    Long,
}

/// Reads a message from JSON text; gives its encoded bytes.
///
/// # Errors
/// The first fault, with its place and path.
pub fn to_protobuf(message: &MessageDescriptor, json: &[u8], unknown: Unknown) -> Result<Vec<u8>, JsonFault> {
    read::message(message, json, unknown)
}

/// Writes the encoded bytes of a message as JSON, without spaces. Fields that are not there, and those of proto3 that have
/// their default without `optional`, are left out.
///
/// # Errors
/// Bytes that are not the message, and what JSON has no form for.
pub fn to_json(message: &MessageDescriptor, bytes: &[u8]) -> Result<String, Unwritable> {
    write::message(message, bytes)
}

/// Writes one field of an encoded message as JSON: its value, or `null` if it is not there.
///
/// # Errors
/// As [`to_json`].
pub fn field_to_json(
    message: &MessageDescriptor,
    field: &prost_reflect::FieldDescriptor,
    bytes: &[u8],
) -> Result<String, Unwritable> {
    write::field(message, field, bytes)
}

/// Writes the details of a failure (an encoded `google.rpc.Status`) as a JSON list. A detail of a type that the descriptors
/// do not have is given as `{"@type": …, "value": BASE64}`; `[]` for what is no such status.
#[must_use]
pub fn details_to_json(pool: &prost_reflect::DescriptorPool, status: &[u8]) -> String {
    write::details(pool, status)
}

/// Writes text as a JSON string.
pub fn quote(text: &str, out: &mut String) {
    write::quote(text, out);
}

/// What protobuf's own types of a JSON form of their own are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    List,
    Wrapper,
    /// An object without fields, which is only within `Any` unlike any other message.
    Empty,
}

impl WellKnown {
    pub(crate) fn of(full_name: &str) -> Option<WellKnown> {
        Some(match full_name.strip_prefix("google.protobuf.")? {
            "Any" => WellKnown::Any,
            "Timestamp" => WellKnown::Timestamp,
            "Duration" => WellKnown::Duration,
            "FieldMask" => WellKnown::FieldMask,
            "Struct" => WellKnown::Struct,
            "Value" => WellKnown::Value,
            "ListValue" => WellKnown::List,
            "Empty" => WellKnown::Empty,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => WellKnown::Wrapper,
            _ => return None,
        })
    }
}

/// The enum whose one value is JSON's `null`.
pub(crate) const NULL_VALUE: &str = "google.protobuf.NullValue";

#[cfg(test)]
mod tests;
