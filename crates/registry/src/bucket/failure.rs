//! What a bucket's refusal means, in a few words and with what to do. What the server or the client says at length may
//! name keys and whole requests, and is left out.

use super::BucketAddress;
use crate::BlobError;
use object_store::Error;

/// Most bytes of a foreign message that are passed on.
const FOREIGN_BYTES: usize = 200;

const REACH: &str = "see that the bucket's server runs and is reached from here (setting s3.endpoint); what runs goes \
    on meanwhile";
const ACCESS: &str = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may read, write and delete in the \
    bucket; the clock of this machine must be right as well";
const MAKE: &str = "make the bucket, or name another with --blobs s3://BUCKET[/PREFIX]";
const REGION: &str = "name the bucket's own region with the setting s3.region or AWS_REGION";

/// Says what went wrong while `what` was being done.
pub(super) fn failure(address: &BucketAddress, what: String, error: &Error) -> BlobError {
    let said = cause(error);
    let code = code(&said);
    let (why, hint) = match (error, code) {
        (_, Some("NoSuchBucket")) => ("there is no such bucket".to_owned(), MAKE),
        (
            _,
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"),
        ) => ("the bucket is in another region".to_owned(), REGION),
        (_, Some("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken"))
        | (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => (
            format!("access is refused{}", code.map(|code| format!(" ({code})")).unwrap_or_default()),
            ACCESS,
        ),
        (_, Some(code)) => (format!("the server says {code}"), REACH),
        (_, None) => (foreign(&said), REACH),
    };
    BlobError::Bucket { bucket: address.to_string(), what, why, hint }
}

/// Says that nothing came in this time.
pub(super) fn silence(address: &BucketAddress, what: String, seconds: u64) -> BlobError {
    let why = format!("nothing came for {seconds} s");
    BlobError::Bucket { bucket: address.to_string(), what, why, hint: REACH }
}

/// The innermost message: the ones around it repeat it with addresses and counts.
fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut said = cause.to_string();
    while let Some(source) = cause.source() {
        cause = source;
        // A server's answer stands in one message only, which need not be the innermost.
        let inner = cause.to_string();
        if code(&inner).is_some() || code(&said).is_none() {
            said = inner;
        }
    }
    said
}

/// The code in an answer of S3's.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_plain =
        !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain.then_some(code)
}

/// A message of others', without the document that may follow it, and cut.
fn foreign(text: &str) -> String {
    let head = text.split('<').next().unwrap_or_default().trim_end_matches([':', ' ']);
    let mut end = head.len().min(FOREIGN_BYTES);
    while !head.is_char_boundary(end) {
        end -= 1;
    }
    match head.get(..end) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "the server's answer is not understood".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &Error) -> (String, &'static str) {
        let address = "s3://tutti/a".parse().unwrap();
        match failure(&address, "store blob x".into(), error) {
            BlobError::Bucket { why, hint, .. } => (why, hint),
            other => panic!("{other}"),
        }
    }

    fn answered(body: &str) -> Error {
        Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: 403: {body}").into(),
        }
    }

    #[test]
    fn an_answer_is_told_by_its_code_and_without_its_keys() {
        let body = "<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        assert_eq!(told(&answered(body)), ("access is refused (InvalidAccessKeyId)".into(), ACCESS));
        assert_eq!(told(&answered("<Error><Code>NoSuchBucket</Code></Error>")).1, MAKE);
        assert_eq!(told(&answered("<Error><Code>SlowDown</Code></Error>")).0, "the server says SlowDown");
        let html = told(&answered("<html>AKIA</html>"));
        assert_eq!(html.0, "Server returned non-2xx status code: 403");
    }

    #[test]
    fn a_long_message_is_cut() {
        let error = Error::Generic { store: "S3", source: "ä".repeat(FOREIGN_BYTES).into() };
        assert_eq!(told(&error).0.len(), FOREIGN_BYTES);
    }
}
