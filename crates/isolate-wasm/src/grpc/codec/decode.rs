//! Wire bytes to component values.

use super::{
    DEPTH, Malformed, Reason, VALUE,
    wire::{Span, WireType, unzigzag},
};
use std::collections::BTreeMap;
use tutti_proto::schema::{Field, Kind, Message, MessageIndex, Place, Presence, Schema, Slot};
use wasmtime::component::Val;

/// What a string or a list takes beside its contents: its pointer, capacity and length, and the allocator's own.
const ALLOCATION: usize = 40;

/// Decodes one message, and says what its values take.
pub(super) fn decode(
    schema: &Schema,
    message: MessageIndex,
    bytes: &[u8],
    most: usize,
) -> Result<(Val, usize), Malformed> {
    let mut decoder = Decoder { schema, left: most, lenient: false };
    let value = decoder.message(message, &[Span { offset: 0, bytes }], 0)?;
    Ok((value, most.saturating_sub(decoder.left)))
}

struct Decoder<'s> {
    schema: &'s Schema,
    /// Bytes of memory that values may still take.
    left: usize,
    /// Whether what is read now is dropped, so that it may lack what is required.
    lenient: bool,
}

/// What was read of a slot so far. Messages stay bytes until all their occurrences are known: merging is decoding one
/// after the other.
enum Partial<'b> {
    Missing,
    One(Val),
    Spans(Vec<Span<'b>>),
    Many(Vec<Val>),
    Map(BTreeMap<Key, (Val, Val)>),
    Case(u32, Box<Partial<'b>>),
}

/// A map's key, for finding its value again.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i128),
    Text(String),
}

impl Decoder<'_> {
    fn message(&mut self, index: MessageIndex, spans: &[Span<'_>], depth: usize) -> Result<Val, Malformed> {
        let start = spans.first().copied().unwrap_or(Span { offset: 0, bytes: &[] });
        if depth >= DEPTH {
            return Err(start.fault(Reason::Depth));
        }
        let schema = self.schema;
        let message = schema.message(index).ok_or_else(|| start.fault(Reason::Schema))?;
        let mut partials = Vec::new();
        partials.resize_with(message.slots.len(), || Partial::Missing);
        for span in spans {
            self.fields(message, *span, &mut partials, depth)?;
        }
        if message.slots.is_empty() {
            self.charge(&start, VALUE + ALLOCATION)?;
            return Ok(Val::Enum("empty".to_owned()));
        }
        let mut record = Vec::with_capacity(message.slots.len());
        for (slot, partial) in message.slots.iter().zip(partials) {
            let (wit_name, value) = match slot {
                Slot::Field(field) => (&field.wit_name, self.field_value(field, partial, &start, depth)?),
                Slot::Oneof { wit_name, cases, .. } => {
                    (wit_name, self.oneof_value(cases, partial, &start, depth)?)
                }
            };
            self.charge(&start, VALUE + ALLOCATION + wit_name.len())?;
            record.push((wit_name.clone(), value));
        }
        Ok(Val::Record(record))
    }

    /// Reads one stretch of a message's fields.
    fn fields<'b>(
        &mut self,
        message: &Message,
        mut span: Span<'b>,
        partials: &mut [Partial<'b>],
        depth: usize,
    ) -> Result<(), Malformed> {
        while !span.is_empty() {
            let (number, wire_type) = span.tag()?;
            let Some((field, cases, case, partial)) = find(message, number, partials) else {
                span.skip(number, wire_type)?;
                continue;
            };
            match field.presence {
                Presence::Repeated { .. } => self.element(field, wire_type, &mut span, partial, depth),
                Presence::Map { key } => self.entry(field, key, wire_type, &mut span, partial, depth),
                Presence::Oneof => {
                    let replaced = self.case(field, case, wire_type, &mut span, partial)?;
                    self.replaced(cases, replaced, depth)
                }
                Presence::Implicit | Presence::Explicit | Presence::Required => {
                    self.singular(field, wire_type, &mut span, partial)
                }
            }?;
        }
        Ok(())
    }

    /// One more occurrence of a field that has one value.
    fn singular<'b>(
        &mut self,
        field: &Field,
        wire_type: WireType,
        span: &mut Span<'b>,
        partial: &mut Partial<'b>,
    ) -> Result<(), Malformed> {
        if wire_type != written_as(field.kind) {
            return span.skip(field.number, wire_type);
        }
        if let Kind::Message(_) | Kind::Encoded(_) = field.kind {
            let occurrence = span.length_delimited().map_err(|fault| fault.within(&field.name, None))?;
            self.charge(&occurrence, size_of::<Span<'_>>())?;
            match partial {
                Partial::Spans(spans) => spans.push(occurrence),
                other => *other = Partial::Spans(vec![occurrence]),
            }
            return Ok(());
        }
        let value = self.scalar(field.kind, span).map_err(|fault| fault.within(&field.name, None))?;
        if let Some(value) = value {
            *partial = Partial::One(value);
        }
        Ok(())
    }

    /// One more occurrence of a member of a oneof: it replaces another member, and merges with itself. Gives what it
    /// replaces.
    fn case<'b>(
        &mut self,
        field: &Field,
        case: u32,
        wire_type: WireType,
        span: &mut Span<'b>,
        partial: &mut Partial<'b>,
    ) -> Result<Partial<'b>, Malformed> {
        let mut of_case = match std::mem::replace(partial, Partial::Missing) {
            Partial::Case(known, inner) if known == case => *inner,
            other => {
                let mut fresh = Partial::Missing;
                self.singular(field, wire_type, span, &mut fresh)?;
                // A value that nobody knows leaves what was there before.
                if let Partial::Missing = fresh {
                    *partial = other;
                    return Ok(Partial::Missing);
                }
                *partial = Partial::Case(case, Box::new(fresh));
                return Ok(other);
            }
        };
        self.singular(field, wire_type, span, &mut of_case)?;
        *partial = Partial::Case(case, Box::new(of_case));
        Ok(Partial::Missing)
    }

    /// A member of a oneof that another has replaced is read all the same, for what is malformed in it: every parser of
    /// protobuf refuses it. What it lacks is of no interest, and its values take memory for a moment only.
    fn replaced(&mut self, cases: &[Field], partial: Partial<'_>, depth: usize) -> Result<(), Malformed> {
        let Partial::Case(case, inner) = partial else { return Ok(()) };
        let field = usize::try_from(case).ok().and_then(|case| cases.get(case));
        let (Some(field), Partial::Spans(spans)) = (field, *inner) else { return Ok(()) };
        let Kind::Message(index) = field.kind else { return Ok(()) };
        let (left, lenient) = (self.left, std::mem::replace(&mut self.lenient, true));
        let read = self.message(index, &spans, depth.saturating_add(1));
        (self.left, self.lenient) = (left, lenient);
        read.map(drop).map_err(|fault| fault.within(&field.name, None))
    }

    /// One more element of a list, or several that are packed.
    fn element<'b>(
        &mut self,
        field: &Field,
        wire_type: WireType,
        span: &mut Span<'b>,
        partial: &mut Partial<'b>,
        depth: usize,
    ) -> Result<(), Malformed> {
        if !matches!(partial, Partial::Many(_)) {
            *partial = Partial::Many(Vec::new());
        }
        let Partial::Many(elements) = partial else { return Ok(()) };
        let wanted = written_as(field.kind);
        if wire_type == wanted {
            let index = elements.len();
            let read = self.one(field.kind, span, depth);
            elements.extend(read.map_err(|fault| fault.within(&field.name, Some(index)))?);
        } else if wire_type == WireType::Length {
            let mut packed = span.length_delimited().map_err(|fault| fault.within(&field.name, None))?;
            while !packed.is_empty() {
                let index = elements.len();
                let read = self.scalar(field.kind, &mut packed);
                elements.extend(read.map_err(|fault| fault.within(&field.name, Some(index)))?);
            }
        } else {
            span.skip(field.number, wire_type)?;
        }
        Ok(())
    }

    /// One more entry of a map: a message of key (1) and value (2), each of which may be missing.
    fn entry<'b>(
        &mut self,
        field: &Field,
        key: Kind,
        wire_type: WireType,
        span: &mut Span<'b>,
        partial: &mut Partial<'b>,
        depth: usize,
    ) -> Result<(), Malformed> {
        if !matches!(partial, Partial::Map(_)) {
            *partial = Partial::Map(BTreeMap::new());
        }
        let Partial::Map(entries) = partial else { return Ok(()) };
        if wire_type != WireType::Length {
            return span.skip(field.number, wire_type);
        }
        let index = entries.len();
        let read = span
            .length_delimited()
            .and_then(|entry| self.pair(field, key, entry, depth))
            .map_err(|fault| fault.within(&field.name, Some(index)))?;
        if let Some((key, value)) = read {
            let found = match &key {
                Val::String(text) => {
                    self.charge(span, text.len())?;
                    Key::Text(text.clone())
                }
                Val::Bool(is) => Key::Number(i128::from(*is)),
                Val::S32(number) => Key::Number(i128::from(*number)),
                Val::S64(number) => Key::Number(i128::from(*number)),
                Val::U32(number) => Key::Number(i128::from(*number)),
                Val::U64(number) => Key::Number(i128::from(*number)),
                _ => return Err(span.fault(Reason::Schema)),
            };
            self.charge(span, 3 * VALUE + ALLOCATION)?;
            entries.insert(found, (key, value));
        }
        Ok(())
    }

    /// Key and value of an entry; nothing if the value is an enum's number that nobody knows.
    fn pair(
        &mut self,
        field: &Field,
        key_kind: Kind,
        mut entry: Span<'_>,
        depth: usize,
    ) -> Result<Option<(Val, Val)>, Malformed> {
        let start = entry;
        let (mut key, mut value, mut messages, mut unknown) = (None, None, Vec::new(), false);
        while !entry.is_empty() {
            match entry.tag()? {
                (1, wire_type) if wire_type == written_as(key_kind) => {
                    key = self.scalar(key_kind, &mut entry)?;
                }
                (2, wire_type) if wire_type == written_as(field.kind) => match field.kind {
                    Kind::Message(_) | Kind::Encoded(_) => {
                        let occurrence = entry.length_delimited()?;
                        self.charge(&occurrence, size_of::<Span<'_>>())?;
                        messages.push(occurrence);
                    }
                    kind => {
                        value = self.scalar(kind, &mut entry)?;
                        unknown = value.is_none();
                    }
                },
                (number, wire_type) => entry.skip(number, wire_type)?,
            }
        }
        if unknown {
            return Ok(None);
        }
        let key = match key {
            Some(key) => key,
            None => self.zero(key_kind, &start)?,
        };
        let value = match (field.kind, value) {
            (Kind::Message(index), _) => self.message(index, &messages, depth.saturating_add(1))?,
            (Kind::Encoded(_), _) => self.encoded(&messages, &start)?,
            (_, Some(value)) => value,
            (kind, None) => self.zero(kind, &start)?,
        };
        Ok(Some((key, value)))
    }

    /// One element of a list.
    fn one(&mut self, kind: Kind, span: &mut Span<'_>, depth: usize) -> Result<Option<Val>, Malformed> {
        match kind {
            Kind::Message(index) => {
                let bytes = span.length_delimited()?;
                self.charge(&bytes, VALUE)?;
                self.message(index, &[bytes], depth.saturating_add(1)).map(Some)
            }
            Kind::Encoded(_) => {
                let bytes = span.length_delimited()?;
                self.encoded(&[bytes], &bytes).map(Some)
            }
            kind => self.scalar(kind, span),
        }
    }

    /// One value that is no message; nothing for an enum's number that nobody knows.
    fn scalar(&mut self, kind: Kind, span: &mut Span<'_>) -> Result<Option<Val>, Malformed> {
        let start = *span;
        self.charge(&start, VALUE)?;
        Ok(Some(match kind {
            Kind::Double => Val::Float64(f64::from_le_bytes(span.fixed64()?)),
            Kind::Float => Val::Float32(f32::from_le_bytes(span.fixed32()?)),
            Kind::Int32 => Val::S32(low(span.varint()?).cast_signed()),
            Kind::Int64 => Val::S64(span.varint()?.cast_signed()),
            Kind::Uint32 => Val::U32(low(span.varint()?)),
            Kind::Uint64 => Val::U64(span.varint()?),
            Kind::Sint32 => {
                Val::S32(low(unzigzag(u64::from(low(span.varint()?))).cast_unsigned()).cast_signed())
            }
            Kind::Sint64 => Val::S64(unzigzag(span.varint()?)),
            Kind::Fixed32 => Val::U32(u32::from_le_bytes(span.fixed32()?)),
            Kind::Fixed64 => Val::U64(u64::from_le_bytes(span.fixed64()?)),
            Kind::Sfixed32 => Val::S32(i32::from_le_bytes(span.fixed32()?)),
            Kind::Sfixed64 => Val::S64(i64::from_le_bytes(span.fixed64()?)),
            Kind::Bool => Val::Bool(span.varint()? != 0),
            Kind::String => {
                let bytes = span.length_delimited()?;
                let text = std::str::from_utf8(bytes.bytes).map_err(|fault| {
                    let offset = bytes.offset.saturating_add(fault.valid_up_to());
                    Malformed::at(offset, Reason::Utf8)
                })?;
                self.charge(&start, ALLOCATION.saturating_add(text.len()))?;
                Val::String(text.to_owned())
            }
            Kind::Bytes => {
                let bytes = span.length_delimited()?;
                self.bytes(bytes.bytes, &start)?
            }
            Kind::Enum(index) => {
                let number = low(span.varint()?).cast_signed();
                let one = self.schema.enumeration(index).ok_or_else(|| start.fault(Reason::Schema))?;
                let Some(case) = one.case(number) else { return Ok(None) };
                self.charge(&start, ALLOCATION.saturating_add(case.wit_name.len()))?;
                Val::Enum(case.wit_name.clone())
            }
            Kind::Message(_) | Kind::Encoded(_) => return Err(start.fault(Reason::Schema)),
        }))
    }

    fn field_value(
        &mut self,
        field: &Field,
        partial: Partial<'_>,
        start: &Span<'_>,
        depth: usize,
    ) -> Result<Val, Malformed> {
        Ok(match (field.presence, partial) {
            (Presence::Repeated { .. }, Partial::Many(elements)) => Val::List(elements),
            (Presence::Map { .. }, Partial::Map(entries)) => {
                Val::List(entries.into_values().map(|(key, value)| Val::Tuple(vec![key, value])).collect())
            }
            (Presence::Repeated { .. } | Presence::Map { .. }, _) => Val::List(Vec::new()),
            (Presence::Explicit, Partial::Missing) => Val::Option(None),
            (Presence::Required, Partial::Missing) if self.lenient => Val::Option(None),
            (Presence::Required, Partial::Missing) => {
                return Err(start.fault(Reason::Required).within(&field.name, None));
            }
            (Presence::Implicit, Partial::Missing) => self.zero(field.kind, start)?,
            (Presence::Explicit, partial) => {
                self.charge(start, VALUE)?;
                Val::Option(Some(Box::new(self.present(field, partial, start, depth)?)))
            }
            (_, partial) => self.present(field, partial, start, depth)?,
        })
    }

    fn oneof_value(
        &mut self,
        cases: &[Field],
        partial: Partial<'_>,
        start: &Span<'_>,
        depth: usize,
    ) -> Result<Val, Malformed> {
        let Partial::Case(case, inner) = partial else { return Ok(Val::Option(None)) };
        let field = usize::try_from(case).ok().and_then(|case| cases.get(case));
        let field = field.ok_or_else(|| start.fault(Reason::Schema))?;
        self.charge(start, (2 * VALUE + ALLOCATION).saturating_add(field.wit_name.len()))?;
        let value = self.present(field, *inner, start, depth)?;
        let variant = Val::Variant(field.wit_name.clone(), Some(Box::new(value)));
        Ok(Val::Option(Some(Box::new(variant))))
    }

    /// The value of a field that is there.
    fn present(
        &mut self,
        field: &Field,
        partial: Partial<'_>,
        start: &Span<'_>,
        depth: usize,
    ) -> Result<Val, Malformed> {
        let value = match (partial, field.kind) {
            (Partial::One(value), _) => Ok(value),
            (Partial::Spans(spans), Kind::Message(index)) => {
                self.message(index, &spans, depth.saturating_add(1))
            }
            (Partial::Spans(spans), Kind::Encoded(_)) => self.encoded(&spans, start),
            _ => Err(start.fault(Reason::Schema)),
        };
        value.map_err(|fault| fault.within(&field.name, None))
    }

    /// A message that stays bytes: merging is writing one after the other.
    fn encoded(&mut self, spans: &[Span<'_>], start: &Span<'_>) -> Result<Val, Malformed> {
        let mut all = Vec::new();
        for span in spans {
            match self.bytes(span.bytes, start)? {
                Val::List(bytes) if all.is_empty() => all = bytes,
                Val::List(bytes) => all.extend(bytes),
                _ => {}
            }
        }
        Ok(Val::List(all))
    }

    fn bytes(&mut self, bytes: &[u8], start: &Span<'_>) -> Result<Val, Malformed> {
        self.charge(start, ALLOCATION.saturating_add(bytes.len().saturating_mul(VALUE)))?;
        Ok(Val::List(bytes.iter().copied().map(Val::U8).collect()))
    }

    /// What a field is that is not there.
    fn zero(&mut self, kind: Kind, start: &Span<'_>) -> Result<Val, Malformed> {
        Ok(match kind {
            Kind::Double => Val::Float64(0.0),
            Kind::Float => Val::Float32(0.0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Val::S32(0),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Val::S64(0),
            Kind::Uint32 | Kind::Fixed32 => Val::U32(0),
            Kind::Uint64 | Kind::Fixed64 => Val::U64(0),
            Kind::Bool => Val::Bool(false),
            Kind::String => Val::String(String::new()),
            Kind::Bytes => Val::List(Vec::new()),
            Kind::Enum(index) => {
                let one = self.schema.enumeration(index).ok_or_else(|| start.fault(Reason::Schema))?;
                let case = one.default_case().ok_or_else(|| start.fault(Reason::Schema))?;
                self.charge(start, ALLOCATION.saturating_add(case.wit_name.len()))?;
                Val::Enum(case.wit_name.clone())
            }
            Kind::Message(_) | Kind::Encoded(_) => return Err(start.fault(Reason::Schema)),
        })
    }

    fn charge(&mut self, at: &Span<'_>, bytes: usize) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| at.fault(Reason::TooLarge))?;
        Ok(())
    }
}

/// The field of a number, all that may stand in its slot and which of them it is, and what was read of the slot so far.
type Found<'m, 'p, 'b> = (&'m Field, &'m [Field], u32, &'p mut Partial<'b>);

fn find<'m, 'p, 'b>(
    message: &'m Message,
    number: u32,
    partials: &'p mut [Partial<'b>],
) -> Option<Found<'m, 'p, 'b>> {
    let Place { slot, case } = message.place(number)?;
    let slot = usize::try_from(slot).ok()?;
    let cases = match message.slots.get(slot)? {
        Slot::Field(field) => std::slice::from_ref(field),
        Slot::Oneof { cases, .. } => cases,
    };
    Some((cases.get(usize::try_from(case).ok()?)?, cases, case, partials.get_mut(slot)?))
}

/// How a value of this kind is written when it is not packed.
const fn written_as(kind: Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => WireType::Varint,
        Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Encoded(_) => WireType::Length,
    }
}

/// The low 32 bits: how a varint that is too large for its field is read, as every parser does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the encoding page: as if it were cast to 32 bits in C++"
)]
const fn low(value: u64) -> u32 {
    value as u32
}
