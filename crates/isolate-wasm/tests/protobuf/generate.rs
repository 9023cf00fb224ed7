//! Messages of every type, as tidy as protobuf's own writers make them, or as odd as the encoding page allows.

use crate::{
    boxed::is_boxed,
    seed::Seed,
    write::{self, END_GROUP, FIXED32, FIXED64, GROUP, LENGTH, VARINT},
};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// Messages within messages; enough for what does not lead back to itself.
const DEPTH: usize = 5;

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    /// As it is sent.
    pub(crate) sent: Vec<u8>,
    /// What is meant by it: the same without what is skipped by the rules of `proto-wit.md` (an enum's unknown number), or
    /// what `prost` does not take (a known field in another wire type, which protobuf's own parsers skip).
    pub(crate) meant: Vec<u8>,
}

/// Some bytes of a message, which may stand anywhere in it.
type Piece = Generated;

impl Generated {
    fn same(sent: Vec<u8>) -> Piece {
        Piece { meant: sent.clone(), sent }
    }

    fn meaningless(sent: Vec<u8>) -> Piece {
        Piece { sent, meant: Vec::new() }
    }

    fn joined<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> Generated {
        let mut all = Generated { sent: Vec::new(), meant: Vec::new() };
        for piece in pieces {
            all.sent.extend_from_slice(&piece.sent);
            all.meant.extend_from_slice(&piece.meant);
        }
        all
    }
}

/// Writes messages.
pub(crate) struct Generator<'s> {
    seed: &'s mut Seed,
    odd: bool,
    /// Whether what is written goes through the component as it is.
    boxed: bool,
}

impl Generator<'_> {
    pub(crate) fn tidy(seed: &mut Seed) -> Generator<'_> {
        Generator { seed, odd: false, boxed: false }
    }

    pub(crate) fn odd(seed: &mut Seed) -> Generator<'_> {
        Generator { seed, odd: true, boxed: false }
    }

    pub(crate) fn message(&mut self, of: &MessageDescriptor) -> Generated {
        Generated::joined(&self.pieces(of, 0))
    }

    /// What a message is made of, in the order in which it is written.
    fn pieces(&mut self, of: &MessageDescriptor, depth: usize) -> Vec<Piece> {
        let mut fields: Vec<FieldDescriptor> = of.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let chosen = self.chosen_members(of);
        // Small and large messages: a field stands in it once in so many times.
        let times = self.seed.one_of(&[1, 2, 2, 4]) + depth;
        let mut pieces = Vec::new();
        for field in fields {
            let required = field.cardinality() == prost_reflect::Cardinality::Required;
            let member = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let wanted = match member {
                Some(_) if self.odd => self.seed.once_in(3),
                Some(_) => chosen.contains(&field.number()),
                None => required || self.seed.once_in(times),
            };
            let too_deep = depth >= DEPTH && !required && matches!(field.kind(), Kind::Message(_));
            if wanted && !too_deep {
                self.field(&field, depth, &mut pieces);
            }
        }
        if self.odd {
            self.add_oddities(of, &mut pieces);
            self.seed.shuffle(&mut pieces);
        }
        pieces
    }

    /// For each oneof the member that stands in a tidy message.
    fn chosen_members(&mut self, of: &MessageDescriptor) -> Vec<u32> {
        let mut chosen = Vec::new();
        for oneof in of.oneofs() {
            let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
            let at = self.seed.below(members.len() + 1);
            chosen.extend(members.get(at));
        }
        chosen
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize, pieces: &mut Vec<Piece>) {
        if field.is_map() {
            return self.map(field, depth, pieces);
        }
        if field.is_list() {
            return self.list(field, depth, pieces);
        }
        let times = if self.odd { 1 + self.seed.below(2) } else { 1 };
        for _ in 0..times {
            match field.kind() {
                Kind::Message(inner) => self.singular_message(field, &inner, depth, pieces),
                _ => {
                    let value = self.scalar(&field.kind());
                    let zero = !field.supports_presence() && value.meant.iter().all(|byte| *byte == 0);
                    // A zero is not written by a tidy writer; -0.0 has a bit.
                    if self.odd || !zero {
                        pieces.push(self.tagged(field.number(), wire_type(&field.kind()), value));
                    }
                }
            }
        }
        let required = field.cardinality() == prost_reflect::Cardinality::Required;
        if self.may_mislead() && self.seed.once_in(8) {
            pieces.push(self.mismatched(field));
        }
        if self.may_mislead()
            && !required
            && self.seed.once_in(8)
            && let Kind::Enum(one) = field.kind()
        {
            let number = self.unknown_number(&one);
            let value = self.tagged(field.number(), VARINT, Generated::same(number));
            pieces.push(Piece::meaningless(value.sent));
        }
    }

    /// A message, or several that are to be merged.
    fn singular_message(
        &mut self,
        field: &FieldDescriptor,
        inner: &MessageDescriptor,
        depth: usize,
        pieces: &mut Vec<Piece>,
    ) {
        let content = self.inner_pieces(field, inner, depth);
        let split =
            if self.odd && self.seed.once_in(2) { self.seed.below(content.len() + 1) } else { content.len() };
        let (first, second) = content.split_at(split);
        let first = self.delimited(&Generated::joined(first));
        pieces.push(self.tagged(field.number(), LENGTH, first));
        if !second.is_empty() {
            let second = self.delimited(&Generated::joined(second));
            pieces.push(self.tagged(field.number(), LENGTH, second));
        }
    }

    fn inner_pieces(
        &mut self,
        field: &FieldDescriptor,
        inner: &MessageDescriptor,
        depth: usize,
    ) -> Vec<Piece> {
        let around = self.boxed;
        self.boxed |= is_boxed(field);
        let pieces = self.pieces(inner, depth + 1);
        self.boxed = around;
        pieces
    }

    fn list(&mut self, field: &FieldDescriptor, depth: usize, pieces: &mut Vec<Piece>) {
        let kind = field.kind();
        let count = self.seed.one_of(&[0, 1, 2, 3, 20]);
        let count = if matches!(kind, Kind::Message(_)) { count.min(3) } else { count };
        let packable = !matches!(kind, Kind::Message(_) | Kind::String | Kind::Bytes);
        let mut rest = count;
        while rest > 0 {
            let packed = packable && if self.odd { self.seed.once_in(2) } else { field.is_packed() };
            let run = if !packed {
                1
            } else if self.odd {
                1 + self.seed.below(rest)
            } else {
                rest
            };
            rest -= run;
            let mut run_of = Vec::new();
            for _ in 0..run {
                run_of.push(match &kind {
                    Kind::Message(inner) => {
                        let content = self.inner_pieces(field, inner, depth);
                        self.delimited(&Generated::joined(&content))
                    }
                    kind => self.scalar(kind),
                });
            }
            if packed
                && self.may_mislead()
                && self.seed.once_in(8)
                && let Kind::Enum(one) = &kind
            {
                let number = self.unknown_number(one);
                run_of.push(Piece::meaningless(number));
            }
            let run_of = Generated::joined(&run_of);
            let (content, wire) =
                if packed { (self.delimited(&run_of), LENGTH) } else { (run_of, wire_type(&kind)) };
            pieces.push(self.tagged(field.number(), wire, content));
        }
        if packable && self.odd && self.seed.once_in(8) {
            let empty = self.delimited(&Generated::same(Vec::new()));
            pieces.push(self.tagged(field.number(), LENGTH, empty));
        }
        if self.may_mislead() && self.seed.once_in(8) {
            pieces.push(self.mismatched(field));
        }
    }

    fn map(&mut self, field: &FieldDescriptor, depth: usize, pieces: &mut Vec<Piece>) {
        let Kind::Message(entry) = field.kind() else { return };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let mut entries = Vec::new();
        for _ in 0..self.seed.one_of(&[1, 2, 5]) {
            let key_bytes = self.scalar(&key.kind());
            let mut halves = Vec::new();
            if !self.odd || !self.seed.once_in(6) {
                halves.push(self.tagged(1, wire_type(&key.kind()), key_bytes.clone()));
            }
            if !self.odd || !self.seed.once_in(6) {
                let content = match value.kind() {
                    Kind::Message(inner) => {
                        let content = self.inner_pieces(&value, &inner, depth + 1);
                        self.delimited(&Generated::joined(&content))
                    }
                    kind => self.scalar(&kind),
                };
                halves.push(self.tagged(2, wire_type(&value.kind()), content));
            }
            if self.odd {
                if self.may_mislead() && self.seed.once_in(6) {
                    // Python's parser sets an entry aside with which such a field comes.
                    let unknown = Piece::meaningless(self.unknown_field(7).sent);
                    halves.push(unknown);
                }
                self.seed.shuffle(&mut halves);
            }
            let content = Generated::joined(&halves);
            let content = self.delimited(&content);
            entries.push((key_bytes.meant, self.tagged(field.number(), LENGTH, content)));
        }
        if !self.odd {
            // Tidy is: by key, each once.
            let order = |bytes: &[u8]| key_order(&key.kind(), bytes);
            entries.sort_by_key(|(key, _)| order(key));
            entries.dedup_by_key(|(key, _)| order(key));
        }
        pieces.extend(entries.into_iter().map(|(_, entry)| entry));
        if self.may_mislead()
            && self.seed.once_in(4)
            && let Kind::Enum(one) = value.kind()
        {
            let key_bytes = self.scalar(&key.kind());
            let number = Generated::same(self.unknown_number(&one));
            let halves = [self.tagged(1, wire_type(&key.kind()), key_bytes), self.tagged(2, VARINT, number)];
            let content = self.delimited(&Generated::joined(&halves));
            let whole = self.tagged(field.number(), LENGTH, content);
            pieces.push(Piece::meaningless(whole.sent));
        }
    }

    /// Fields that the message does not have.
    fn add_oddities(&mut self, of: &MessageDescriptor, pieces: &mut Vec<Piece>) {
        for _ in 0..self.seed.one_of(&[0, 0, 1, 3]) {
            let number = self.seed.one_of(&[99, 77_777, 536_870_910, 1000]);
            if of.get_field(number).is_none() {
                let unknown = self.unknown_field(number);
                pieces.push(unknown);
            }
        }
    }

    fn unknown_field(&mut self, number: u32) -> Piece {
        let wire_type = self.seed.one_of(&[VARINT, FIXED64, LENGTH, GROUP, FIXED32]);
        let mut sent = Vec::new();
        self.any_value(number, wire_type, 2, &mut sent);
        Piece::same(sent)
    }

    fn any_value(&mut self, number: u32, wire_type: u32, depth: usize, out: &mut Vec<u8>) {
        write::tag(number, wire_type, self.width(5), out);
        match wire_type {
            VARINT => write::varint(self.seed.next(), self.width(10), out),
            FIXED64 => out.extend(self.seed.next().to_le_bytes()),
            FIXED32 => out.extend(&self.seed.next().to_le_bytes()[..4]),
            LENGTH => {
                let bytes: Vec<u8> = (0..self.seed.below(20)).map(|_| self.seed.next() as u8).collect();
                write::delimited(&bytes, self.width(5), out);
            }
            _ => {
                if depth > 0 {
                    for _ in 0..self.seed.below(3) {
                        let inner = self.seed.one_of(&[VARINT, FIXED64, LENGTH, GROUP, FIXED32]);
                        let number = 1 + self.seed.below(1000) as u32;
                        self.any_value(number, inner, depth - 1, out);
                    }
                }
                write::tag(number, END_GROUP, 1, out);
            }
        }
    }

    /// A field that is known, written as if it were of another type.
    fn mismatched(&mut self, field: &FieldDescriptor) -> Piece {
        let own = wire_type(&field.kind());
        let others: Vec<u32> = [VARINT, FIXED64, LENGTH, FIXED32]
            .into_iter()
            .filter(|other| *other != own && !(field.is_list() && *other == LENGTH))
            .collect();
        let other = self.seed.one_of(&others);
        let mut sent = Vec::new();
        self.any_value(field.number(), other, 1, &mut sent);
        Piece::meaningless(sent)
    }

    /// Whether something may be written that has to be left out of what is meant: not where a component gets the bytes.
    fn may_mislead(&self) -> bool {
        self.odd && !self.boxed
    }

    /// Bytes that a varint is written with at least.
    fn width(&mut self, most: usize) -> usize {
        if self.odd && self.seed.once_in(10) { 1 + self.seed.below(most) } else { 1 }
    }

    fn tagged(&mut self, number: u32, wire_type: u32, value: Piece) -> Piece {
        let mut begin = Vec::new();
        write::tag(number, wire_type, self.width(5), &mut begin);
        Piece { sent: [&begin[..], &value.sent].concat(), meant: [&begin[..], &value.meant].concat() }
    }

    fn delimited(&mut self, content: &Generated) -> Piece {
        let width = self.width(5);
        let mut all = Piece { sent: Vec::new(), meant: Vec::new() };
        write::delimited(&content.sent, width, &mut all.sent);
        write::delimited(&content.meant, width, &mut all.meant);
        all
    }

    fn unknown_number(&mut self, one: &EnumDescriptor) -> Vec<u8> {
        let unnamed =
            [1000, -2, i32::MIN, i32::MAX - 1].into_iter().filter(|number| one.get_value(*number).is_none());
        let number = self.seed.one_of(&unnamed.collect::<Vec<_>>());
        let mut out = Vec::new();
        write::varint(i64::from(number) as u64, self.width(10), &mut out);
        out
    }

    /// One value that is no message, without its tag.
    fn scalar(&mut self, kind: &Kind) -> Piece {
        let mut out = Vec::new();
        let number = self.number();
        match kind {
            Kind::Double => {
                let special =
                    [0.0, -0.0, 1.5, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];
                out.extend(self.seed.one_of(&special).to_le_bytes());
            }
            Kind::Float => {
                let special =
                    [0.0, -0.0, 1.5, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::EPSILON];
                out.extend(self.seed.one_of(&special).to_le_bytes());
            }
            Kind::Fixed32 | Kind::Sfixed32 => out.extend((number as u32).to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => out.extend(number.to_le_bytes()),
            Kind::Int32 => self.varint_of_32(i64::from(number as i32) as u64, &mut out),
            Kind::Uint32 => self.varint_of_32(u64::from(number as u32), &mut out),
            Kind::Sint32 => self.varint_of_32(u64::from(number as u32), &mut out),
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 => write::varint(number, self.width(10), &mut out),
            Kind::Bool if self.odd && self.seed.once_in(4) => write::varint(number, self.width(10), &mut out),
            Kind::Bool => write::varint(number & 1, self.width(10), &mut out),
            Kind::Enum(one) => {
                let numbers: Vec<i32> = one.values().map(|value| value.number()).collect();
                let number = self.seed.one_of(&numbers);
                self.varint_of_32(i64::from(number) as u64, &mut out);
            }
            Kind::String => {
                let texts = ["", "a", "Grüße, 世界 🎶", "with\0a nul", "a-longer-text-".repeat(30).leak()];
                write::delimited(self.seed.one_of(&texts).as_bytes(), self.width(5), &mut out);
            }
            Kind::Bytes => {
                let length = self.seed.one_of(&[0, 1, 7, 200]);
                let bytes: Vec<u8> = (0..length).map(|_| self.seed.next() as u8).collect();
                write::delimited(&bytes, self.width(5), &mut out);
            }
            Kind::Message(_) => panic!("a message is no scalar"),
        }
        Piece::same(out)
    }

    /// A field of 32 bits may be written with more: the rest is cut off.
    fn varint_of_32(&mut self, value: u64, out: &mut Vec<u8>) {
        let above = if self.odd && self.seed.once_in(8) { self.seed.next() << 32 } else { 0 };
        let value = if above == 0 { value } else { above | (value & 0xffff_ffff) };
        write::varint(value, self.width(10), out);
    }

    fn number(&mut self) -> u64 {
        let special = [0, 1, 2, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 31, (1 << 31) - 1, 0xffff_ffff, 300];
        if self.seed.once_in(2) {
            self.seed.one_of(&special)
        } else {
            self.seed.next() >> self.seed.below(64)
        }
    }
}

pub(crate) fn wire_type(kind: &Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => LENGTH,
        _ => VARINT,
    }
}

/// Where a tidily written key stands among others: by its number, or by its bytes.
fn key_order(kind: &Kind, bytes: &[u8]) -> (i128, Vec<u8>) {
    let varint = || bytes.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    let unzigzag = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
    let number = match kind {
        Kind::String => {
            return (0, bytes.iter().copied().skip(if bytes.len() > 128 { 2 } else { 1 }).collect());
        }
        Kind::Fixed32 => u32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Kind::Sfixed32 => i32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Kind::Fixed64 => u64::from_le_bytes(bytes.try_into().unwrap()).into(),
        Kind::Sfixed64 => i64::from_le_bytes(bytes.try_into().unwrap()).into(),
        Kind::Int32 | Kind::Int64 => i128::from(varint() as i64),
        Kind::Sint32 | Kind::Sint64 => i128::from(unzigzag(varint())),
        _ => i128::from(varint()),
    };
    (number, Vec::new())
}
