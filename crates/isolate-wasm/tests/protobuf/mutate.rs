//! Bytes with faults in them.

use crate::seed::Seed;

/// The same with one to three changes.
pub(crate) fn mutate(bytes: &[u8], seed: &mut Seed) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + seed.below(3) {
        let length = bytes.len();
        if length == 0 {
            bytes.push(seed.next() as u8);
            continue;
        }
        let at = seed.below(length);
        match seed.below(7) {
            0 => bytes[at] ^= 1 << seed.below(8),
            1 => bytes[at] = seed.one_of(&[0, 1, 0x7f, 0x80, 0xff, 0x0b, 0x0c]),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, seed.next() as u8),
            4 => drop(bytes.remove(at)),
            5 => {
                let piece = bytes[at..length.min(at + 1 + seed.below(16))].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes[at] = seed.next() as u8,
        }
    }
    bytes
}
