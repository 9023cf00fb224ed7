//! The messages of `grpc.health.v1.Health`.

use prost::Message as _;

/// The service.
pub const SERVICE: &str = "grpc.health.v1.Health";
/// Longest request, in bytes: it is a service's name.
pub const REQUEST_BYTES: usize = 1024;

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It takes none.
    NotServing,
    /// There is no such service; only told to those that watch.
    Unknown,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The service that an encoded request asks about; empty for the server as a whole. `None` for what is no request.
#[must_use]
pub fn asked(request: &[u8]) -> Option<String> {
    Request::decode(request).ok().map(|request| request.service)
}

/// The encoded response.
#[must_use]
pub fn response(health: Health) -> Vec<u8> {
    let status = match health {
        Health::Serving => 1,
        Health::NotServing => 2,
        Health::Unknown => 3,
    };
    Response { status }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_a_service_or_none() {
        assert_eq!(asked(b"").as_deref(), Some(""));
        assert_eq!(asked(b"\x0a\x01a").as_deref(), Some("a"));
        assert_eq!(asked(b"\x0a\x05a"), None);
        assert_eq!(response(Health::Serving), [8, 1]);
    }
}
