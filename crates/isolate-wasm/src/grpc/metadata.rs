//! Metadata: the headers of a request as a component sees them, those that it adds, and the deadline among them.

use super::status::{Code, Status};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use wasmtime::component::{ComponentType, Lift, Lower};

/// Names that end so have binary values.
const BINARY: &str = "-bin";
/// Most that a component adds to the head of its answer, and as much to its trailers, in bytes, names and 32 for each
/// included: clients take 8 KiB and more, and the status has its share.
const ADDED_BYTES: usize = 2048;
const ENTRY_BYTES: usize = 32;
/// Names that are the protocol's own, beside those that begin with `grpc-` or `tutti-`.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Binary values with padding or without are read; gRPC asks for both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The interface's `metadata-value`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum MetadataValue {
    #[component(name = "text")]
    Text(String),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

fn is_reserved(name: &str) -> bool {
    name.starts_with("grpc-") || name.starts_with("tutti-") || RESERVED.contains(&name)
}

/// What of a request's headers is metadata. Its own version and instance are said to a component by its environment, but
/// a request's `tutti-` headers are from Tutti, and it may see them.
pub(crate) fn incoming(headers: &HeaderMap) -> Vec<(String, MetadataValue)> {
    let mut metadata = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let name = name.as_str();
        if name.starts_with("grpc-") || RESERVED.contains(&name) {
            continue;
        }
        if name.ends_with(BINARY) {
            // A sender may join several values with commas.
            for one in value.as_bytes().split(|byte| *byte == b',') {
                if let Ok(bytes) = BASE64.decode(one.trim_ascii()) {
                    metadata.push((name.to_owned(), MetadataValue::Binary(bytes)));
                }
            }
        } else if let Ok(text) = value.to_str() {
            metadata.push((name.to_owned(), MetadataValue::Text(text.to_owned())));
        }
    }
    metadata
}

/// Refuses binary metadata that is not base64.
pub(crate) fn check_binary(headers: &HeaderMap) -> Result<(), Status> {
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().ends_with(BINARY)) {
        let mut values = value.as_bytes().split(|byte| *byte == b',');
        if values.any(|one| BASE64.decode(one.trim_ascii()).is_err()) {
            return Err(Status::new(Code::InvalidArgument, format!("metadata {name} is not base64")));
        }
    }
    Ok(())
}

/// Adds what a component says to its headers or trailers.
///
/// # Errors
/// Why it may not.
pub(crate) fn add(headers: &mut HeaderMap, name: &str, value: &MetadataValue) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let name = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(format!(
            "\"{}\" is not a name: it has a-z, 0-9, \"-\", \"_\" and \".\"",
            name.escape_debug()
        ));
    }
    if is_reserved(&name) {
        return Err(format!("\"{name}\" is reserved"));
    }
    let text = match (value, name.ends_with(BINARY)) {
        (MetadataValue::Binary(bytes), true) => BASE64.encode(bytes),
        (MetadataValue::Text(text), false) => text.clone(),
        (MetadataValue::Text(_), true) => {
            return Err(format!("\"{name}\" ends in \"{BINARY}\": its value must be binary"));
        }
        (MetadataValue::Binary(_), false) => {
            return Err(format!("a binary value needs a name that ends in \"{BINARY}\", not \"{name}\""));
        }
    };
    if !text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Err(format!("the value of \"{name}\" has characters other than printable ASCII"));
    }
    let size = |name: &str, value: usize| name.len().saturating_add(value).saturating_add(ENTRY_BYTES);
    let held: usize = headers.iter().map(|(name, value)| size(name.as_str(), value.len())).sum();
    if held.saturating_add(size(&name, text.len())) > ADDED_BYTES {
        return Err(format!("no more than {ADDED_BYTES} bytes can be added"));
    }
    let wrong = |why: &str| format!("\"{name}\" cannot be added: {why}");
    let header = HeaderName::try_from(name.as_str()).map_err(|error| wrong(&error.to_string()))?;
    let value = HeaderValue::try_from(text).map_err(|error| wrong(&error.to_string()))?;
    headers.append(header, value);
    Ok(())
}

/// The time that a client gives its call (`grpc-timeout`: at most eight digits and a unit).
///
/// # Errors
/// `INVALID_ARGUMENT` if it is not one.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| Status::new(Code::InvalidArgument, "grpc-timeout is not a time"))
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_as_the_protocol_writes_them() {
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("5M"), Some(Duration::from_secs(300)));
        assert_eq!(parse_timeout("0n"), Some(Duration::ZERO));
        assert_eq!(parse_timeout("20m"), Some(Duration::from_millis(20)));
        for wrong in ["", "S", "1", "100000000S", "-1S", "+1S", "1.5S", " 1S", "1s", "1é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn binary_metadata_is_base64_with_padding_or_without() {
        let mut headers = HeaderMap::new();
        headers.append("a-bin", HeaderValue::from_static("AQI=, AQI,/w"));
        headers.append("b", HeaderValue::from_static("text"));
        headers.append("grpc-timeout", HeaderValue::from_static("1S"));
        headers.append("te", HeaderValue::from_static("trailers"));
        assert_eq!(check_binary(&headers), Ok(()));
        let of_a = |bytes: &[u8]| ("a-bin".to_owned(), MetadataValue::Binary(bytes.to_vec()));
        assert_eq!(
            incoming(&headers),
            [
                of_a(&[1, 2]),
                of_a(&[1, 2]),
                of_a(&[255]),
                ("b".to_owned(), MetadataValue::Text("text".to_owned()))
            ]
        );
        headers.append("c-bin", HeaderValue::from_static("!"));
        assert_eq!(check_binary(&headers).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn what_is_added_is_checked_and_bounded() {
        let mut headers = HeaderMap::new();
        let text = |text: &str| MetadataValue::Text(text.to_owned());
        for (name, value, why) in [
            ("", text("x"), "not a name"),
            ("a b", text("x"), "not a name"),
            ("grpc-status", text("0"), "reserved"),
            ("Content-Type", text("x"), "reserved"),
            ("tutti-instance", text("x"), "reserved"),
            ("x-bin", text("x"), "must be binary"),
            ("x", MetadataValue::Binary(vec![1]), "ends in"),
            ("x", text("a\nb"), "printable"),
            ("x", text("é"), "printable"),
            ("x", text(&"x".repeat(ADDED_BYTES)), "no more than"),
        ] {
            let refused = add(&mut headers, name, &value).unwrap_err();
            assert!(refused.contains(why), "{name}: {refused}");
        }
        assert!(headers.is_empty());
        add(&mut headers, "X-Id", &text("7")).unwrap();
        add(&mut headers, "x-id", &text("8")).unwrap();
        add(&mut headers, "x-bin", &MetadataValue::Binary(vec![1, 2])).unwrap();
        assert_eq!(headers.get_all("x-id").iter().count(), 2);
        assert_eq!(headers.get("x-bin").unwrap(), "AQI");
        let mut added = 0;
        while add(&mut headers, "more", &text("value")).is_ok() {
            added += 1;
            assert!(added < ADDED_BYTES);
        }
    }
}
