//! What single implementations have of their own, which would drown other differences.

use prost_reflect::{Kind, MessageDescriptor};

/// What stands in a message, up to where it is malformed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quirks {
    /// A map's field in another wire type: `prost-reflect` reads an entry there all the same.
    pub(crate) mistyped_map: bool,
    /// A tag or a length of more than five bytes, which Python's parser refuses.
    pub(crate) long_prefix: bool,
}

impl Quirks {
    pub(crate) fn of(message: &MessageDescriptor, bytes: &[u8]) -> Quirks {
        let mut quirks = Quirks::default();
        quirks.look(message, bytes);
        quirks
    }

    fn look(&mut self, message: &MessageDescriptor, mut bytes: &[u8]) {
        while let Some(tag) = self.prefix(&mut bytes) {
            let field = message.get_field((tag >> 3) as u32);
            let wire_type = tag & 7;
            self.mistyped_map |= wire_type != 2 && field.as_ref().is_some_and(|field| field.is_map());
            let length = match wire_type {
                0 => varint(&mut bytes).map(|_| 0),
                1 => Some(8),
                2 => self.prefix(&mut bytes).map(|length| length as usize),
                5 => Some(4),
                // What is in a group is unknown, and read as if it stood beside it.
                3 | 4 => Some(0),
                _ => None,
            };
            let Some((value, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                return;
            };
            if let (2, Some(Kind::Message(inner))) = (wire_type, field.map(|field| field.kind())) {
                self.look(&inner, value);
            }
            bytes = rest;
        }
    }

    fn prefix(&mut self, bytes: &mut &[u8]) -> Option<u64> {
        let before = bytes.len();
        let value = varint(bytes)?;
        self.long_prefix |= before - bytes.len() > 5;
        Some(value)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}
