//! The wire format's primitives: varints, tags, lengths, and skipping what is not known.

use super::{DEPTH, Malformed, Reason};

/// The largest field number, from the encoding page.
const LARGEST_FIELD: u32 = (1 << 29) - 1;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Length,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// Bytes of the message, and where in it they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'b> {
    pub(super) offset: usize,
    pub(super) bytes: &'b [u8],
}

impl<'b> Span<'b> {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn fault(&self, reason: Reason) -> Malformed {
        Malformed::at(self.offset, reason)
    }

    /// Takes so many bytes from the front.
    fn take(&mut self, length: usize) -> Result<Span<'b>, Malformed> {
        let (front, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.fault(Reason::CutOff))?;
        let taken = Span { offset: self.offset, bytes: front };
        self.bytes = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let start = *self;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some((&byte, rest)) = self.bytes.split_first() else {
                return Err(start.fault(Reason::CutOff));
            };
            self.bytes = rest;
            self.offset = self.offset.saturating_add(1);
            // The tenth byte has one bit of use; what is above it is dropped, as other parsers do.
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(start.fault(Reason::Varint))
    }

    pub(super) fn tag(&mut self) -> Result<(u32, WireType), Malformed> {
        let start = *self;
        let tag = u32::try_from(self.varint()?).map_err(|_| start.fault(Reason::Varint))?;
        let number = tag >> 3;
        if number == 0 || number > LARGEST_FIELD {
            return Err(start.fault(Reason::FieldNumber));
        }
        let wire_type = match tag & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Length,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(start.fault(Reason::WireType)),
        };
        Ok((number, wire_type))
    }

    pub(super) fn fixed32(&mut self) -> Result<[u8; 4], Malformed> {
        let start = *self;
        self.take(4)?.bytes.try_into().map_err(|_| start.fault(Reason::CutOff))
    }

    pub(super) fn fixed64(&mut self) -> Result<[u8; 8], Malformed> {
        let start = *self;
        self.take(8)?.bytes.try_into().map_err(|_| start.fault(Reason::CutOff))
    }

    pub(super) fn length_delimited(&mut self) -> Result<Span<'b>, Malformed> {
        let start = *self;
        let length = usize::try_from(self.varint()?).map_err(|_| start.fault(Reason::CutOff))?;
        self.take(length).map_err(|_| start.fault(Reason::CutOff))
    }

    /// Skips a value that nobody knows.
    pub(super) fn skip(&mut self, number: u32, wire_type: WireType) -> Result<(), Malformed> {
        let start = *self;
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Length => self.length_delimited().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::EndGroup => Err(start.fault(Reason::Group)),
            WireType::StartGroup => self.skip_group(number),
        }
    }

    /// Skips a group to its end, and the groups in it, without recursion.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let start = *self;
            match self.tag()? {
                (number, WireType::EndGroup) if number == innermost => {
                    open.pop();
                }
                (number, WireType::StartGroup) => {
                    if open.len() >= DEPTH {
                        return Err(start.fault(Reason::Depth));
                    }
                    open.push(number);
                }
                (_, WireType::EndGroup) => return Err(start.fault(Reason::Group)),
                (number, wire_type) => self.skip(number, wire_type)?,
            }
        }
        Ok(())
    }
}

/// Undoes the zigzag of `sint32` and `sint64`.
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// The zigzag of `sint32` and `sint64`.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// A varint as it is written.
pub(super) struct Varint {
    bytes: [u8; 10],
    length: usize,
}

impl Varint {
    pub(super) fn new(mut value: u64) -> Varint {
        let mut bytes = [0; 10];
        let mut length: usize = 0;
        for place in &mut bytes {
            length = length.saturating_add(1);
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                *place = low & 0x7f;
                break;
            }
            *place = low | 0x80;
        }
        Varint { bytes, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
