//! Protobuf wire bytes to component values and back, by the schema of the service.
//!
//! The rules are those of protobuf's encoding page: unknown fields are skipped, the last of several scalars wins,
//! several occurrences of one message are merged, packed and unpacked are both read, and what is written is in order of
//! field numbers. Bytes come from strangers: every length, depth and the memory that values take is bounded, and
//! whatever is malformed is told with the field's path and the byte's offset.

mod decode;
mod encode;
mod wire;

#[cfg(test)]
mod tests;

use tutti_proto::schema::{EnumCase, EnumIndex, MessageIndex, Schema};
use wasmtime::component::Val;

/// Messages within messages (protobuf's own parsers stop at 100).
pub const DEPTH: usize = 100;

/// What the values of a small message may take at least, in bytes: two bytes on the wire can be a message of a hundred
/// fields, so that the size on the wire says little.
const VALUES_AT_LEAST: usize = 16 << 20;
/// What one value takes, whatever it is.
pub(crate) const VALUE: usize = size_of::<Val>();

/// Most memory, in bytes, that the values of a message may take of which so many bytes are allowed: a value for each
/// byte, as `bytes` and packed `bool`s are.
#[must_use]
pub const fn value_bytes(message: usize) -> usize {
    VALUES_AT_LEAST.saturating_add(message.saturating_mul(VALUE))
}

/// A schema, and what is looked up in it for every message.
#[derive(Debug)]
pub struct Codec {
    schema: Schema,
    /// For each enum the indices of its cases, sorted by the component's name for them: a component could otherwise
    /// have the host search for minutes, with a large reply of a large enum.
    by_name: Vec<Vec<u32>>,
}

impl Codec {
    /// A codec for the messages of this schema.
    #[must_use]
    pub fn new(schema: Schema) -> Codec {
        let by_name = schema.enums.iter().map(|one| {
            let name = |at: &u32| one.cases.get(index(*at)).map(|case| case.wit_name.as_str());
            let mut sorted: Vec<u32> = (0..).take(one.cases.len()).collect();
            sorted.sort_by(|one, other| name(one).cmp(&name(other)));
            sorted
        });
        Codec { by_name: by_name.collect(), schema }
    }

    /// What it goes by.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Decodes one message whose values take at most `most` bytes of memory. Says how many they take, roughly.
    ///
    /// # Errors
    /// The first fault, with its path and offset.
    pub fn decode(
        &self,
        message: MessageIndex,
        bytes: &[u8],
        most: usize,
    ) -> Result<(Val, usize), Malformed> {
        decode::decode(&self.schema, message, bytes, most)
    }

    /// Appends one message of at most `most` bytes.
    ///
    /// # Errors
    /// A value that its type does not allow, or a message that is too long.
    pub fn encode(
        &self,
        message: MessageIndex,
        value: &Val,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Unencodable> {
        encode::encode(self, message, value, most, out)
    }

    /// The case that a component names.
    fn case(&self, one: EnumIndex, name: &str) -> Option<&EnumCase> {
        let cases = &self.schema.enumeration(one)?.cases;
        let by_name = self.by_name.get(index(one.0))?;
        let named = |at: &u32| cases.get(index(*at)).map_or("", |case| case.wit_name.as_str());
        let found = by_name.binary_search_by(|at| named(at).cmp(name)).ok()?;
        cases.get(index(*by_name.get(found)?))
    }
}

/// An index of the schema as one of a vector.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The field, from the outermost message in: `.items[3].name`; empty for the message itself.
    pub path: String,
    /// The offset of the byte, from 0.
    pub offset: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The bytes end before the value does.
    #[error("the message ends within a value")]
    CutOff,
    /// A varint of more than ten bytes, or a tag that does not fit into 32 bits.
    #[error("a varint is too long")]
    Varint,
    /// Field number 0, or one over 536,870,911.
    #[error("there is no such field number")]
    FieldNumber,
    /// Wire type 6 or 7.
    #[error("there is no such wire type")]
    WireType,
    /// The end of a group that was not begun, or of another one.
    #[error("a group ends that was not begun")]
    Group,
    /// A string that is not UTF-8.
    #[error("the string is not UTF-8")]
    Utf8,
    /// A `required` field that is not there.
    #[error("this required field is missing")]
    Required,
    /// Nested too deep.
    #[error("messages are nested more than {DEPTH} deep")]
    Depth,
    /// The values would take too much memory.
    #[error("the message unfolds to too many values")]
    TooLarge,
    /// The schema does not hold what it refers to: our fault.
    #[error("the schema is inconsistent")]
    Schema,
}

impl Malformed {
    fn at(offset: usize, reason: Reason) -> Self {
        Malformed { path: String::new(), offset, reason }
    }

    /// The same, seen from the message around it.
    fn within(mut self, field: &str, index: Option<usize>) -> Self {
        let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
        self.path.insert_str(0, &format!(".{field}{index}"));
        self
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            write!(f, "byte {}: {}", self.offset, self.reason)
        } else {
            write!(f, "{} at byte {}: {}", self.path, self.offset, self.reason)
        }
    }
}

impl std::error::Error for Malformed {}

/// Why a value of a component is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    /// The value has another type than the schema says; the push should have found it.
    #[error("{field}: the component gave {found}, which its interface does not say")]
    Type {
        /// Which field.
        field: String,
        /// What it gave.
        found: String,
    },
    /// The message would be longer than the service may send.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
}
