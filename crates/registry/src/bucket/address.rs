//! Where a bucket is, and who may use it.

use std::{fmt, str::FromStr};
use tutti_base::Secret;
use tutti_model::Problem;

/// Longest prefix: S3's keys have at most 1024 bytes, and the longest name below a prefix (a link: domain, service and
/// digest) has less than half of that.
const PREFIX_BYTES: usize = 512;
/// How an address is written.
const FORM: &str = "write s3://BUCKET[/PREFIX]";

/// A bucket and the prefix in it, as `s3://BUCKET[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    bucket: String,
    prefix: String,
}

impl BucketAddress {
    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What every object's key begins with, without slashes around it; empty for none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(f, "s3://{}", self.bucket),
            prefix => write!(f, "s3://{}/{prefix}", self.bucket),
        }
    }
}

impl FromStr for BucketAddress {
    type Err = Problem;

    /// # Errors
    /// `invalid`, saying what is wrong with it.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let invalid = |why: &str| Problem::invalid(format!("{why}; {FORM}"));
        let rest = text.strip_prefix("s3://").ok_or_else(|| invalid("it is not an address of a bucket"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if !is_bucket(bucket) {
            return Err(invalid("a bucket's name has 3 to 63 small letters, digits, hyphens and dots"));
        }
        if prefix.len() > PREFIX_BYTES {
            return Err(invalid(&format!("the prefix is longer than {PREFIX_BYTES} bytes")));
        }
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err(invalid(
                "a prefix has letters, digits, hyphens, underscores and dots between slashes",
            ));
        }
        Ok(BucketAddress { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

fn is_bucket(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
        && !name.contains("..")
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whom the bucket knows this process as.
#[derive(Debug, Clone)]
pub struct Access {
    /// The key's name, such as `AWS_ACCESS_KEY_ID` has it.
    pub key: String,
    /// What proves it.
    pub secret: Secret<String>,
    /// What goes with a key that is lent for some time.
    pub session: Option<Secret<String>>,
}

/// A bucket, where it is and as whom it is used.
#[derive(Debug, Clone)]
pub struct BucketOptions {
    /// Which bucket.
    pub address: BucketAddress,
    /// The server, as `http://HOST:PORT` or `https://…`; `None` for Amazon's own of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// As whom.
    pub access: Access,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_perhaps_a_prefix() {
        let parse = |text: &str| text.parse::<BucketAddress>();
        assert_eq!(parse("s3://tutti").unwrap().prefix(), "");
        let with_prefix = parse("s3://my-bucket.eu/team/a_1/").unwrap();
        assert_eq!((with_prefix.bucket(), with_prefix.prefix()), ("my-bucket.eu", "team/a_1"));
        assert_eq!(with_prefix.to_string(), "s3://my-bucket.eu/team/a_1");
        let long = format!("s3://tutti/{}", "a".repeat(PREFIX_BYTES + 1));
        for wrong in [
            "s3://",
            "s3://ab",
            "s3://Tutti",
            "s3://a..b",
            "s3://tutti//a",
            "s3://tutti/../a",
            "/tutti",
            &long,
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(problem.detail.ends_with(FORM), "{wrong}: {problem}");
        }
    }
}
