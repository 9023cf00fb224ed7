//! Plain text to a field's bytes: what stands in a path, a query, a map's key, or between quotes where JSON has no other
//! form for it.

use super::read::{
    key, push_bytes, push_enum, push_mask, push_seconds, shown, type_name, unknown_value, wanted,
};
use super::{JsonFault, WellKnown, number, time};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::encode_varint;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// Padding may be left out, as the mapping's page says.
const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// A field that can be given as plain text, in a path or a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromText {
    /// One value.
    One,
    /// Any number of values.
    Many,
    /// It can't: a message, a map.
    No,
}

impl FromText {
    /// What there is of this field.
    #[must_use]
    pub fn of(field: &FieldDescriptor) -> FromText {
        let plain = match field.kind() {
            Kind::Message(message) => matches!(
                WellKnown::of(message.full_name()),
                Some(WellKnown::Timestamp | WellKnown::Duration | WellKnown::FieldMask | WellKnown::Wrapper)
            ),
            _ => true,
        };
        match (plain && !field.is_map() && !field.is_group(), field.is_list()) {
            (false, _) => FromText::No,
            (true, false) => FromText::One,
            (true, true) => FromText::Many,
        }
    }
}

/// Appends a field that is given as plain text to an encoded message, its default too.
///
/// # Errors
/// Text that is no value of the field, and fields that can't be given so.
pub fn append_text(field: &FieldDescriptor, value: &str, out: &mut Vec<u8>) -> Result<(), JsonFault> {
    let start = out.len();
    let kind = field.kind();
    key(field.number(), &kind, out);
    let done = match &kind {
        Kind::Message(message) => message_text(message, value, out),
        Kind::Enum(one) => enum_text(one, value, out),
        kind => text(kind, value, out),
    };
    done.map_err(|what| {
        out.truncate(start);
        JsonFault { line: 0, column: 0, path: field.name().to_owned(), what, hint: None }
    })
}

fn message_text(message: &MessageDescriptor, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut inner = Vec::new();
    let seconds = |parsed: Option<(i64, i32)>, wanted: &str, inner: &mut Vec<u8>| {
        let (seconds, nanos) =
            parsed.ok_or_else(|| format!("expected {wanted}, found \"{}\"", shown(value)))?;
        push_seconds(seconds, nanos, inner);
        Ok::<(), String>(())
    };
    match (WellKnown::of(message.full_name()), message.get_field(1)) {
        (Some(WellKnown::Timestamp), _) => {
            seconds(time::parse_timestamp(value), "a time such as 2026-01-31T12:00:00Z", &mut inner)?
        }
        (Some(WellKnown::Duration), _) => {
            seconds(time::parse_duration(value), "a duration such as 1.5s", &mut inner)?
        }
        (Some(WellKnown::FieldMask), _) => push_mask(value, &mut inner)?,
        (Some(WellKnown::Wrapper), Some(field)) if !matches!(field.kind(), Kind::Message(_)) => {
            append_text(&field, value, &mut inner).map_err(|fault| fault.what)?;
        }
        _ => return Err("a message can't be given as text".to_owned()),
    }
    push_bytes(&inner, out);
    Ok(())
}

fn enum_text(one: &EnumDescriptor, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if number::grammar(value) > 0 {
        return text(&Kind::Enum(one.clone()), value, out);
    }
    match one.get_value_by_name(value) {
        Some(found) => push_enum(found.number(), out),
        None => return Err(unknown_value(one, value, 0).what),
    }
    Ok(())
}

/// A scalar from its text: a bare or quoted number, a map's key, a string's content.
pub(super) fn text(kind: &Kind, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let float = || match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ if !text.is_empty() && number::grammar(text) == text.len() => {
            text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| beyond(kind, text))
        }
        _ => Err(not(kind, text)),
    };
    match kind {
        Kind::Double => out.extend(float()?.to_le_bytes()),
        Kind::Float => match float()? {
            // Rounded once, from the text: not from a double that was rounded already.
            value if value.is_finite() => {
                let value = text
                    .parse::<f32>()
                    .ok()
                    .filter(|value| value.is_finite())
                    .ok_or_else(|| beyond(kind, text))?;
                out.extend(value.to_le_bytes());
            }
            value if value.is_nan() => out.extend(f32::NAN.to_le_bytes()),
            value => out.extend(f32::INFINITY.copysign(if value > 0.0 { 1.0 } else { -1.0 }).to_le_bytes()),
        },
        Kind::Int32 | Kind::Enum(_) => push_enum(integer(kind, text)?, out),
        Kind::Int64 => encode_varint(integer::<i64>(kind, text)?.cast_unsigned(), out),
        Kind::Uint32 => encode_varint(u64::from(integer::<u32>(kind, text)?), out),
        Kind::Uint64 => encode_varint(integer(kind, text)?, out),
        Kind::Sint32 => {
            let value = integer::<i32>(kind, text)?;
            encode_varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()), out);
        }
        Kind::Sint64 => {
            let value = integer::<i64>(kind, text)?;
            encode_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
        }
        Kind::Fixed32 => out.extend(integer::<u32>(kind, text)?.to_le_bytes()),
        Kind::Fixed64 => out.extend(integer::<u64>(kind, text)?.to_le_bytes()),
        Kind::Sfixed32 => out.extend(integer::<i32>(kind, text)?.to_le_bytes()),
        Kind::Sfixed64 => out.extend(integer::<i64>(kind, text)?.to_le_bytes()),
        Kind::Bool => match text {
            "true" => encode_varint(1, out),
            "false" => encode_varint(0, out),
            _ => return Err(not(kind, text)),
        },
        Kind::String => push_bytes(text.as_bytes(), out),
        Kind::Bytes => {
            let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
            push_bytes(&engine.decode(text).map_err(|_| not(kind, text))?, out);
        }
        Kind::Message(_) => return Err("a message can't be given as text".to_owned()),
    }
    Ok(())
}

fn integer<T: TryFrom<i128>>(kind: &Kind, text: &str) -> Result<T, String> {
    let value = number::integer(text).map_err(|fault| match fault {
        number::NotInteger::Malformed => not(kind, text),
        number::NotInteger::Fraction => format!("expected a whole number, found {}", shown(text)),
        number::NotInteger::Range => beyond(kind, text),
    })?;
    T::try_from(value).map_err(|_| beyond(kind, text))
}

fn not(kind: &Kind, text: &str) -> String {
    format!("expected {}, found \"{}\"", wanted(kind), shown(text))
}

fn beyond(kind: &Kind, text: &str) -> String {
    format!("{} is beyond what {} holds", shown(text), type_name(kind))
}
