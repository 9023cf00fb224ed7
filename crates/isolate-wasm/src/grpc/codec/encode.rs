//! Component values to wire bytes, in order of field numbers.

use super::{
    Codec, Unencodable,
    wire::{Varint, zigzag},
};
use tutti_proto::schema::{Field, Kind, Message, MessageIndex, Place, Presence, Schema, Slot};
use wasmtime::component::Val;

pub(super) fn encode(
    codec: &Codec,
    message: MessageIndex,
    value: &Val,
    most: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unencodable> {
    let begin = out.len();
    let mut encoder = Encoder { codec, schema: &codec.schema, out, begin, most };
    encoder.message(message, value)
}

struct Encoder<'s> {
    codec: &'s Codec,
    schema: &'s Schema,
    out: &'s mut Vec<u8>,
    /// Where the message begins in what is written to.
    begin: usize,
    most: usize,
}

impl Encoder<'_> {
    fn message(&mut self, index: MessageIndex, value: &Val) -> Result<(), Unencodable> {
        let schema = self.schema;
        let message = schema.message(index).ok_or_else(|| wrong("", value))?;
        let fields = match value {
            Val::Record(fields) => fields,
            Val::Enum(_) if message.slots.is_empty() => return Ok(()),
            _ => return Err(wrong(&message.name, value)),
        };
        for (_, place) in &message.numbers {
            let Some((slot, value)) = slot_value(message, *place, fields) else {
                return Err(wrong(&message.name, value));
            };
            match slot {
                Slot::Field(field) => self.field(field, value)?,
                Slot::Oneof { cases, .. } => self.case(cases, *place, value)?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: &Val) -> Result<(), Unencodable> {
        match (field.presence, value) {
            (Presence::Explicit, Val::Option(None)) => Ok(()),
            (Presence::Explicit, Val::Option(Some(value))) => self.tagged(field, value),
            (Presence::Required, value) => self.tagged(field, value),
            (Presence::Implicit, value) if self.is_zero(field.kind, value) => Ok(()),
            (Presence::Implicit, value) => self.tagged(field, value),
            (Presence::Repeated { .. }, Val::List(elements)) if elements.is_empty() => Ok(()),
            (Presence::Repeated { packed: true }, Val::List(elements)) => {
                self.tag(field.number, 2);
                self.delimited(|encoder| {
                    elements.iter().try_for_each(|element| encoder.scalar(field, field.kind, element))
                })
            }
            (Presence::Repeated { packed: false }, Val::List(elements)) => {
                elements.iter().try_for_each(|element| self.tagged(field, element))
            }
            (Presence::Map { key }, Val::List(entries)) => {
                entries.iter().try_for_each(|entry| self.entry(field, key, entry))
            }
            _ => Err(wrong(&field.name, value)),
        }
    }

    fn case(&mut self, cases: &[Field], place: Place, value: &Val) -> Result<(), Unencodable> {
        let field = usize::try_from(place.case).ok().and_then(|case| cases.get(case));
        let Some(field) = field else { return Err(wrong("", value)) };
        let variant = match value {
            Val::Option(None) => return Ok(()),
            Val::Option(Some(variant)) => variant.as_ref(),
            _ => return Err(wrong(&field.name, value)),
        };
        match variant {
            Val::Variant(name, Some(value)) if *name == field.wit_name => self.tagged(field, value),
            Val::Variant(..) => Ok(()),
            _ => Err(wrong(&field.name, value)),
        }
    }

    fn entry(&mut self, field: &Field, key_kind: Kind, entry: &Val) -> Result<(), Unencodable> {
        let Val::Tuple(pair) = entry else { return Err(wrong(&field.name, entry)) };
        let [key, value] = pair.as_slice() else { return Err(wrong(&field.name, entry)) };
        self.tag(field.number, 2);
        self.delimited(|encoder| {
            // Key and value are both written, zero or not, as protobuf's own serializers do.
            encoder.tag(1, wire_type(key_kind));
            encoder.scalar(field, key_kind, key)?;
            encoder.tag(2, wire_type(field.kind));
            encoder.untagged(field, value)
        })
    }

    fn tagged(&mut self, field: &Field, value: &Val) -> Result<(), Unencodable> {
        self.tag(field.number, wire_type(field.kind));
        self.untagged(field, value)
    }

    fn untagged(&mut self, field: &Field, value: &Val) -> Result<(), Unencodable> {
        match field.kind {
            Kind::Message(index) => self.delimited(|encoder| encoder.message(index, value)),
            kind => self.scalar(field, kind, value),
        }
    }

    fn scalar(&mut self, field: &Field, kind: Kind, value: &Val) -> Result<(), Unencodable> {
        match (kind, value) {
            (Kind::Double, Val::Float64(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Float, Val::Float32(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Int32, Val::S32(number)) => self.varint(i64::from(*number).cast_unsigned()),
            (Kind::Int64, Val::S64(number)) => self.varint(number.cast_unsigned()),
            (Kind::Uint32, Val::U32(number)) => self.varint(u64::from(*number)),
            (Kind::Uint64, Val::U64(number)) => self.varint(*number),
            (Kind::Sint32, Val::S32(number)) => self.varint(zigzag(i64::from(*number))),
            (Kind::Sint64, Val::S64(number)) => self.varint(zigzag(*number)),
            (Kind::Fixed32, Val::U32(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Fixed64, Val::U64(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Sfixed32, Val::S32(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Sfixed64, Val::S64(number)) => self.out.extend(number.to_le_bytes()),
            (Kind::Bool, Val::Bool(is)) => self.out.push(u8::from(*is)),
            (Kind::String, Val::String(text)) => {
                self.varint(length(text.len()));
                self.out.extend_from_slice(text.as_bytes());
            }
            (Kind::Bytes | Kind::Encoded(_), Val::List(bytes)) => {
                self.varint(length(bytes.len()));
                for byte in bytes {
                    let Val::U8(byte) = byte else { return Err(wrong(&field.name, byte)) };
                    self.out.push(*byte);
                }
            }
            (Kind::Enum(index), Val::Enum(name)) => {
                let number = self.codec.case(index, name).ok_or_else(|| wrong(&field.name, value))?.number;
                self.varint(i64::from(number).cast_unsigned());
            }
            _ => return Err(wrong(&field.name, value)),
        }
        self.within_limit()
    }

    fn is_zero(&self, kind: Kind, value: &Val) -> bool {
        match value {
            // By bits: a negative zero is not the zero value.
            Val::Float64(number) => number.to_bits() == 0,
            Val::Float32(number) => number.to_bits() == 0,
            Val::S32(number) => *number == 0,
            Val::S64(number) => *number == 0,
            Val::U32(number) => *number == 0,
            Val::U64(number) => *number == 0,
            Val::Bool(is) => !is,
            Val::String(text) => text.is_empty(),
            Val::List(bytes) => bytes.is_empty(),
            Val::Enum(name) => match kind {
                Kind::Enum(index) => {
                    let one = self.schema.enumeration(index);
                    one.and_then(|one| one.default_case()).is_some_and(|case| case.wit_name == *name)
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        self.varint(u64::from(number << 3 | wire_type));
    }

    fn varint(&mut self, value: u64) {
        self.out.extend_from_slice(Varint::new(value).bytes());
    }

    /// Writes a length and what `content` writes. The length is one byte for most messages; for a longer one the
    /// content moves up.
    fn delimited(
        &mut self,
        content: impl FnOnce(&mut Self) -> Result<(), Unencodable>,
    ) -> Result<(), Unencodable> {
        let start = self.out.len();
        self.out.push(0);
        content(self)?;
        let written = self.out.len().saturating_sub(start).saturating_sub(1);
        let prefix = Varint::new(length(written));
        match (prefix.bytes(), self.out.get_mut(start)) {
            ([one], Some(place)) => *place = *one,
            (many, _) => {
                self.out.splice(start..=start, many.iter().copied());
            }
        }
        self.within_limit()
    }

    fn within_limit(&self) -> Result<(), Unencodable> {
        if self.out.len().saturating_sub(self.begin) > self.most {
            Err(Unencodable::TooLong(self.most))
        } else {
            Ok(())
        }
    }
}

/// The slot of a place and the value that the component gave for it. Names and order are those of the interface, which
/// was checked when the component was loaded.
fn slot_value<'m, 'v>(
    message: &'m Message,
    place: Place,
    fields: &'v [(String, Val)],
) -> Option<(&'m Slot, &'v Val)> {
    let index = usize::try_from(place.slot).ok()?;
    Some((message.slots.get(index)?, &fields.get(index)?.1))
}

const fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Encoded(_) => 2,
        _ => 0,
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn wrong(field: &str, value: &Val) -> Unencodable {
    let found = match value {
        Val::Record(_) => "a record",
        Val::List(_) => "a list",
        Val::Option(_) => "an option",
        Val::Variant(..) => "a variant",
        Val::Enum(_) => "an enum case",
        Val::String(_) => "a string",
        Val::Tuple(_) => "a tuple",
        _ => "a number",
    };
    Unencodable::Type { field: field.to_owned(), found: found.to_owned() }
}
