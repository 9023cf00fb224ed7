//! A message's bytes as JSON, straight from the wire. Of several values of a singular field the last counts, and messages
//! are merged, as everywhere; what the descriptor does not have, and extensions, are left out.

use super::{ANY_DEPTH, DEPTH, NULL_VALUE, Unwritable, WRITTEN_BYTES, WellKnown, time};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, decode_varint};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

type Write = Result<(), Unwritable>;

pub(super) fn message(message: &MessageDescriptor, bytes: &[u8]) -> Result<String, Unwritable> {
    let mut writing = Writing { out: String::with_capacity(bytes.len()), depth: DEPTH, any: ANY_DEPTH };
    writing.message(message, bytes)?;
    Ok(writing.out)
}

pub(super) fn field(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    bytes: &[u8],
) -> Result<String, Unwritable> {
    let mut writing = Writing { out: String::with_capacity(bytes.len()), depth: DEPTH, any: ANY_DEPTH };
    let all = records(message, bytes)?;
    let own: Vec<Record<'_>> = all.into_iter().filter(|record| record.number == field.number()).collect();
    let start = writing.out.len();
    writing.value_of(field, &own)?;
    if writing.out.len() == start {
        writing.out.push_str(match (field.is_map(), field.is_list(), field.kind()) {
            (true, ..) => "{}",
            (_, true, _) => "[]",
            _ => "null",
        });
    }
    Ok(writing.out)
}

/// The third field of a `google.rpc.Status`, each an `Any`.
pub(super) fn details(pool: &DescriptorPool, mut status: &[u8]) -> String {
    let mut all: Vec<String> = Vec::new();
    while let Ok(Some(record)) = record(&mut status, DEPTH) {
        if let (3, Raw::Bytes(any)) = (record.number, record.value) {
            all.extend(detail(pool, any));
        }
    }
    format!("[{}]", all.join(","))
}

fn detail(pool: &DescriptorPool, mut any: &[u8]) -> Option<String> {
    let (mut url, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !any.is_empty() {
        match record(&mut any, DEPTH).ok()? {
            Some(Record { number: 1, value: Raw::Bytes(bytes) }) => url = bytes,
            Some(Record { number: 2, value: Raw::Bytes(bytes) }) => value = bytes,
            _ => {}
        }
    }
    let mut writing = Writing { out: String::new(), depth: DEPTH, any: ANY_DEPTH };
    if writing.typed(pool, url, value).is_ok() {
        return Some(writing.out);
    }
    let mut out = String::from("{\"@type\":");
    quote(std::str::from_utf8(url).ok()?, &mut out);
    out.push_str(",\"value\":\"");
    STANDARD.encode_string(value, &mut out);
    out.push_str("\"}");
    Some(out)
}

/// One field as it stands on the wire.
#[derive(Debug, Clone, Copy)]
struct Record<'a> {
    number: u32,
    value: Raw<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    /// A varint or a fixed number.
    Number(WireType, u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by number, each in its order; of a oneof only the member that counts.
fn records<'a>(message: &MessageDescriptor, mut bytes: &'a [u8]) -> Result<Vec<Record<'a>>, Unwritable> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        if let Some(record) = record(&mut bytes, DEPTH)? {
            records.push(record);
        }
    }
    if message.oneofs().any(|oneof| !oneof.is_synthetic()) {
        last_of_oneofs(message, &mut records);
    }
    records.sort_by_key(|record| record.number);
    Ok(records)
}

fn last_of_oneofs(message: &MessageDescriptor, records: &mut Vec<Record<'_>>) {
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
        let is_member = |record: &Record<'_>| members.contains(&record.number);
        let Some(last) = records.iter().rev().find(|record| is_member(record)).map(|record| record.number)
        else {
            continue;
        };
        // What stands before another member is overwritten by that.
        let from = records.iter().rposition(|record| is_member(record) && record.number != last);
        let mut index = 0;
        records.retain(|record| {
            let kept = !is_member(record) || from.is_none_or(|from| index > from);
            index += 1;
            kept
        });
    }
}

fn record<'a>(bytes: &mut &'a [u8], depth: u32) -> Result<Option<Record<'a>>, Unwritable> {
    let key = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or(Unwritable::Malformed("a field's number is out of range"))?;
    let wire =
        WireType::try_from(key & 7).map_err(|_| Unwritable::Malformed("a field has an unknown wire type"))?;
    let value = match wire {
        WireType::Varint => Raw::Number(wire, varint(bytes)?),
        WireType::ThirtyTwoBit => Raw::Number(wire, u64::from(u32::from_le_bytes(fixed(bytes)?))),
        WireType::SixtyFourBit => Raw::Number(wire, u64::from_le_bytes(fixed(bytes)?)),
        WireType::LengthDelimited => {
            let length = usize::try_from(varint(bytes)?).unwrap_or(usize::MAX);
            Raw::Bytes(take(bytes, length)?)
        }
        WireType::StartGroup => {
            let depth = depth.checked_sub(1).ok_or(Unwritable::Deep)?;
            while record(bytes, depth)?.is_some_and(|record| record.number > 0) {}
            return Ok(Some(Record { number: 1 << 29, value: Raw::Bytes(&[]) }));
        }
        // No record: what ends a group.
        WireType::EndGroup => return Ok(None),
    };
    Ok(Some(Record { number, value }))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Unwritable> {
    decode_varint(bytes).map_err(|_| Unwritable::Malformed("a number is cut off or too long"))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unwritable> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Unwritable::Malformed("a field is cut off"))?;
    *bytes = rest;
    Ok(taken)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unwritable> {
    take(bytes, N)?.try_into().map_err(|_| Unwritable::Malformed("a field is cut off"))
}

struct Writing {
    out: String,
    depth: u32,
    any: u32,
}

impl Writing {
    fn message(&mut self, message: &MessageDescriptor, bytes: &[u8]) -> Write {
        self.depth = self.depth.checked_sub(1).ok_or(Unwritable::Deep)?;
        match WellKnown::of(message.full_name()) {
            Some(WellKnown::Any) => self.any(message, bytes)?,
            Some(WellKnown::Timestamp) => self.seconds(message, bytes, "time", time::timestamp)?,
            Some(WellKnown::Duration) => self.seconds(message, bytes, "duration", time::duration)?,
            Some(WellKnown::FieldMask) => self.field_mask(message, bytes)?,
            Some(WellKnown::Struct) => self.only_field(message, bytes, "{}")?,
            Some(WellKnown::List) => self.only_field(message, bytes, "[]")?,
            Some(WellKnown::Value) => self.any_value(message, bytes)?,
            Some(WellKnown::Wrapper) => self.wrapper(message, bytes)?,
            Some(WellKnown::Empty) | None => {
                self.out.push('{');
                self.fields(message, bytes, true)?;
                self.out.push('}');
            }
        }
        self.depth += 1;
        Ok(())
    }

    fn fields(&mut self, message: &MessageDescriptor, bytes: &[u8], mut first: bool) -> Write {
        let records = records(message, bytes)?;
        for run in records.chunk_by(|one, other| one.number == other.number) {
            let Some(field) = run.first().and_then(|record| message.get_field(record.number)) else {
                continue;
            };
            let start = self.out.len();
            if !first {
                self.out.push(',');
            }
            quote(field.json_name(), &mut self.out);
            self.out.push(':');
            let value = self.out.len();
            self.value_of(&field, run)?;
            if self.out.len() == value {
                self.out.truncate(start);
            } else {
                first = false;
            }
        }
        Ok(())
    }

    /// The value of a field from all its records; nothing if there is none.
    fn value_of(&mut self, field: &FieldDescriptor, records: &[Record<'_>]) -> Write {
        let kind = field.kind();
        if field.is_group() {
            return Ok(());
        }
        if field.is_map() {
            return self.map(&kind, records);
        }
        if field.is_list() {
            return self.list(&kind, records);
        }
        if let Kind::Message(message) = &kind {
            return match merged(records) {
                Some(bytes) => self.message(message, &bytes),
                None => Ok(()),
            };
        }
        let wire = kind.wire_type();
        let Some(value) = records.iter().rev().find_map(|record| scalar(wire, record.value)) else {
            return Ok(());
        };
        let zero = match value {
            Raw::Number(_, number) => number == 0,
            Raw::Bytes(bytes) => bytes.is_empty(),
        };
        if zero && !field.supports_presence() { Ok(()) } else { self.scalar(&kind, value) }
    }

    fn list(&mut self, kind: &Kind, records: &[Record<'_>]) -> Write {
        let (start, mut first) = (self.out.len(), true);
        let wire = kind.wire_type();
        self.out.push('[');
        for record in records {
            match (record.value, kind) {
                (Raw::Bytes(bytes), Kind::Message(message)) => {
                    self.comma(&mut first)?;
                    self.message(message, bytes)?;
                }
                (value, kind) if scalar(wire, value).is_some() => {
                    self.comma(&mut first)?;
                    self.scalar(kind, value)?;
                }
                (Raw::Bytes(mut packed), _) if wire != WireType::LengthDelimited => {
                    while !packed.is_empty() {
                        self.comma(&mut first)?;
                        let number = match wire {
                            WireType::ThirtyTwoBit => u64::from(u32::from_le_bytes(fixed(&mut packed)?)),
                            WireType::SixtyFourBit => u64::from_le_bytes(fixed(&mut packed)?),
                            _ => varint(&mut packed)?,
                        };
                        self.scalar(kind, Raw::Number(wire, number))?;
                    }
                }
                _ => {}
            }
        }
        match first {
            true => self.out.truncate(start),
            false => self.out.push(']'),
        }
        Ok(())
    }

    fn map(&mut self, kind: &Kind, records: &[Record<'_>]) -> Write {
        let Kind::Message(entry) = kind else { return Ok(()) };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let mut entries: BTreeMap<String, Vec<Record<'_>>> = BTreeMap::new();
        for record in records {
            let Raw::Bytes(bytes) = record.value else { continue };
            let all = self::records(entry, bytes)?;
            let wire = key.kind().wire_type();
            let name = all.iter().rev().filter(|one| one.number == 1).find_map(|one| scalar(wire, one.value));
            let mut text = Writing { out: String::new(), depth: 1, any: 0 };
            text.scalar(&key.kind(), name.unwrap_or_else(|| zero(wire)))?;
            if !text.out.starts_with('"') {
                text.out = format!("\"{}\"", text.out);
            }
            entries.insert(text.out, all.into_iter().filter(|one| one.number == 2).collect());
        }
        let mut first = true;
        self.out.push('{');
        for (name, records) in entries {
            self.comma(&mut first)?;
            self.out.push_str(&name);
            self.out.push(':');
            let kind = value.kind();
            match &kind {
                Kind::Message(message) => self.message(message, &merged(&records).unwrap_or_default())?,
                kind => {
                    let wire = kind.wire_type();
                    let found = records.iter().rev().find_map(|record| scalar(wire, record.value));
                    self.scalar(kind, found.unwrap_or(zero(wire)))?;
                }
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) -> Write {
        if !std::mem::replace(first, false) {
            self.out.push(',');
        }
        self.bounded()
    }

    fn bounded(&self) -> Write {
        if self.out.len() > WRITTEN_BYTES { Err(Unwritable::Long) } else { Ok(()) }
    }

    fn scalar(&mut self, kind: &Kind, value: Raw<'_>) -> Write {
        match value {
            Raw::Number(_, number) => self.number(kind, number),
            Raw::Bytes(bytes) if *kind == Kind::Bytes => {
                self.out.push('"');
                STANDARD.encode_string(bytes, &mut self.out);
                self.out.push('"');
            }
            Raw::Bytes(bytes) => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| Unwritable::Malformed("a string is not UTF-8"))?;
                quote(text, &mut self.out);
            }
        }
        self.bounded()
    }

    fn number(&mut self, kind: &Kind, bits: u64) {
        let low = low(bits);
        let _ = match kind {
            Kind::Double => return self.float(f64::from_bits(bits), |value| format!("{value:?}")),
            Kind::Float => {
                return self.float(f32::from_bits(low).into(), |_| format!("{:?}", f32::from_bits(low)));
            }
            Kind::Bool => write!(self.out, "{}", bits != 0),
            Kind::Int32 | Kind::Sfixed32 => write!(self.out, "{}", low.cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => write!(self.out, "{low}"),
            Kind::Sint32 => write!(self.out, "{}", (low >> 1).cast_signed() ^ -(low & 1).cast_signed()),
            Kind::Int64 | Kind::Sfixed64 => write!(self.out, "\"{}\"", bits.cast_signed()),
            Kind::Uint64 | Kind::Fixed64 => write!(self.out, "\"{bits}\""),
            Kind::Sint64 => write!(self.out, "\"{}\"", (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()),
            Kind::Enum(one) if one.full_name() == NULL_VALUE => self.out.write_str("null"),
            Kind::Enum(one) => match one.get_value(low.cast_signed()) {
                Some(value) => return quote(value.name(), &mut self.out),
                None => write!(self.out, "{}", low.cast_signed()),
            },
            Kind::String | Kind::Bytes | Kind::Message(_) => Ok(()),
        };
    }

    fn float(&mut self, value: f64, text: impl FnOnce(f64) -> String) {
        if value.is_nan() {
            self.out.push_str("\"NaN\"");
        } else if value.is_infinite() {
            self.out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
        } else {
            self.out.push_str(&text(value));
        }
    }

    fn seconds(
        &mut self,
        message: &MessageDescriptor,
        bytes: &[u8],
        what: &str,
        text: fn(i64, i32) -> Option<String>,
    ) -> Write {
        let all = records(message, bytes)?;
        let number = |number| {
            let own = all.iter().rev().filter(|record| record.number == number);
            own.copied().find_map(|record| match record.value {
                Raw::Number(WireType::Varint, bits) => Some(bits),
                _ => None,
            })
        };
        let (seconds, nanos) =
            (number(1).unwrap_or(0).cast_signed(), low(number(2).unwrap_or(0)).cast_signed());
        let text = text(seconds, nanos).ok_or_else(|| {
            Unwritable::NoForm(format!(
                "a {what} of {seconds} seconds and {nanos} nanoseconds is out of range"
            ))
        })?;
        quote(&text, &mut self.out);
        Ok(())
    }

    fn field_mask(&mut self, message: &MessageDescriptor, bytes: &[u8]) -> Write {
        let mut text = String::new();
        for record in records(message, bytes)? {
            let (1, Raw::Bytes(path)) = (record.number, record.value) else { continue };
            let path =
                std::str::from_utf8(path).map_err(|_| Unwritable::Malformed("a string is not UTF-8"))?;
            if !text.is_empty() {
                text.push(',');
            }
            // Between commas nothing is no path, and alone it would be a mask without any.
            if path.is_empty() {
                return Err(no_camel_case(path));
            }
            let mut letters = path.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '_' => match letters.next() {
                        Some(next @ 'a'..='z') => text.push(next.to_ascii_uppercase()),
                        _ => return Err(no_camel_case(path)),
                    },
                    'a'..='z' | '0'..='9' | '.' => text.push(letter),
                    // What no field's name has could not be read back, or would be read as several paths.
                    _ => return Err(no_camel_case(path)),
                }
            }
        }
        quote(&text, &mut self.out);
        self.bounded()
    }

    /// A `Struct` or `ListValue`: its one field, or what it is when empty.
    fn only_field(&mut self, message: &MessageDescriptor, bytes: &[u8], empty: &str) -> Write {
        let start = self.out.len();
        if let Some(field) = message.get_field(1) {
            let all: Vec<_> =
                records(message, bytes)?.into_iter().filter(|record| record.number == 1).collect();
            if !all.is_empty() {
                self.value_of(&field, &all)?;
            }
        }
        if self.out.len() == start {
            self.out.push_str(empty);
        }
        Ok(())
    }

    fn any_value(&mut self, message: &MessageDescriptor, bytes: &[u8]) -> Write {
        let mut all = records(message, bytes)?;
        let number = all.first().map(|record| record.number);
        all.retain(|record| Some(record.number) == number);
        let start = self.out.len();
        if let Some(field) = all.first().and_then(|record| message.get_field(record.number)) {
            if let (Kind::Double, Some(Raw::Number(_, bits))) =
                (field.kind(), all.last().map(|record| record.value))
                && !f64::from_bits(bits).is_finite()
            {
                return Err(Unwritable::NoForm("a google.protobuf.Value of NaN or infinity".to_owned()));
            }
            self.value_of(&field, &all)?;
        }
        if self.out.len() == start {
            self.out.push_str("null");
        }
        Ok(())
    }

    fn wrapper(&mut self, message: &MessageDescriptor, bytes: &[u8]) -> Write {
        let Some(field) = message.get_field(1) else {
            return Err(Unwritable::Malformed("a wrapper of nothing"));
        };
        let kind = field.kind();
        let wire = kind.wire_type();
        let all = records(message, bytes)?;
        let value =
            all.iter().rev().filter(|record| record.number == 1).find_map(|one| scalar(wire, one.value));
        self.scalar(&kind, value.unwrap_or(zero(wire)))
    }

    fn any(&mut self, message: &MessageDescriptor, bytes: &[u8]) -> Write {
        let all = records(message, bytes)?;
        let last = |number| {
            let own = all.iter().rev().filter(move |record| record.number == number);
            own.copied().find_map(|record| match record.value {
                Raw::Bytes(bytes) => Some(bytes),
                Raw::Number(..) => None,
            })
        };
        let (url, value) = (last(1).unwrap_or_default(), last(2).unwrap_or_default());
        if url.is_empty() && value.is_empty() {
            self.out.push_str("{}");
            return Ok(());
        }
        self.typed(message.parent_pool(), url, value)
    }

    /// A message with its type beside it.
    fn typed(&mut self, pool: &DescriptorPool, url: &[u8], value: &[u8]) -> Write {
        let url = std::str::from_utf8(url).map_err(|_| Unwritable::Malformed("a string is not UTF-8"))?;
        let name = url.rsplit_once('/').map(|(_, name)| name);
        let inner = name.and_then(|name| pool.get_message_by_name(name)).ok_or_else(|| {
            let shown: String = url.chars().take(100).flat_map(char::escape_debug).collect();
            Unwritable::NoForm(format!(
                "it has an Any of type \"{shown}\", which the service's descriptors do not have"
            ))
        })?;
        self.any = self.any.checked_sub(1).ok_or(Unwritable::Deep)?;
        self.out.push_str("{\"@type\":");
        quote(url, &mut self.out);
        match WellKnown::of(inner.full_name()) {
            Some(_) => {
                self.out.push_str(",\"value\":");
                self.message(&inner, value)?;
            }
            None => self.fields(&inner, value, false)?,
        }
        self.out.push('}');
        self.any += 1;
        Ok(())
    }
}

fn no_camel_case(path: &str) -> Unwritable {
    let shown: String = path.chars().take(100).flat_map(char::escape_debug).collect();
    Unwritable::NoForm(format!("the field mask's path \"{shown}\" has no lowerCamelCase form"))
}

/// A value if it stands on the wire as its kind does.
fn scalar<'a>(wire: WireType, value: Raw<'a>) -> Option<Raw<'a>> {
    match value {
        Raw::Number(found, _) if found == wire => Some(value),
        Raw::Bytes(_) if wire == WireType::LengthDelimited => Some(value),
        _ => None,
    }
}

fn zero(wire: WireType) -> Raw<'static> {
    match wire {
        WireType::LengthDelimited => Raw::Bytes(&[]),
        wire => Raw::Number(wire, 0),
    }
}

/// All occurrences of a message as one: read one after the other they are merged.
fn merged<'a>(records: &[Record<'a>]) -> Option<Cow<'a, [u8]>> {
    let mut all = records.iter().filter_map(|record| match record.value {
        Raw::Bytes(bytes) => Some(bytes),
        Raw::Number(..) => None,
    });
    let first = all.next()?;
    let mut merged = Cow::Borrowed(first);
    for more in all {
        merged.to_mut().extend_from_slice(more);
    }
    Some(merged)
}

/// The low half, which is what 32-bit types read of a longer varint.
fn low(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Text as a JSON string; `<`, `>` and the line separators stay as they are, which JSON allows.
pub(super) fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter < ' ' || matches!(letter, '"' | '\\')) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut letters = special.chars();
        match letters.next() {
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(letter @ ('"' | '\\')) => out.extend(['\\', letter]),
            Some(letter) => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            None => {}
        }
        rest = letters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}
