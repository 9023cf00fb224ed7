//! What has to be known of gRPC to forward it: who speaks it, and which of its statuses blame the server.

use http::{HeaderMap, header::CONTENT_TYPE};

/// Whether the content type says gRPC itself; gRPC-Web is plain HTTP to a proxy.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else { return false };
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The `grpc-status` of trailers, or of the headers of a trailers-only answer.
#[must_use]
pub fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.trim().parse().ok()
}

/// Whether a status blames the server rather than the caller: unknown, deadline exceeded, unimplemented, internal,
/// unavailable and data loss, as OpenTelemetry's conventions for servers have it. What is no status at all does too.
#[must_use]
pub const fn blames_server(status: Option<u32>) -> bool {
    !matches!(status, Some(0 | 1 | 3 | 5..=11 | 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn knows_grpc_by_its_content_type() {
        for (text, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
            assert_eq!(is_grpc(&headers), grpc, "{text}");
        }
    }

    #[test]
    fn blames_the_server_for_its_own_statuses_only() {
        let blamed: Vec<u32> = (0..17).filter(|status| blames_server(Some(*status))).collect();
        assert_eq!(blamed, [2, 4, 12, 13, 14, 15]);
        assert!(blames_server(None));
    }
}
