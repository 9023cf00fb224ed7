//! Wire bytes by hand, well and oddly written.

pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const LENGTH: u32 = 2;
pub(crate) const GROUP: u32 = 3;
pub(crate) const END_GROUP: u32 = 4;
pub(crate) const FIXED32: u32 = 5;

/// Appends a varint of at least so many bytes: more than it needs is not canonical, and is read all the same.
pub(crate) fn varint(mut value: u64, at_least: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 && out.len() - begin + 1 >= at_least {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

pub(crate) fn tag(number: u32, wire_type: u32, at_least: usize, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire_type), at_least, out);
}

pub(crate) fn delimited(bytes: &[u8], at_least: usize, out: &mut Vec<u8>) {
    varint(bytes.len() as u64, at_least, out);
    out.extend_from_slice(bytes);
}
