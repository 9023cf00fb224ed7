//! Where artifacts are kept: a folder of this machine, one that several have, or a bucket.

use super::Effective;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};
use tutti_base::Secret;
use tutti_model::Problem;
use tutti_registry::bucket::{Access, BucketAddress, BucketOptions};

/// How a folder is said to be the same one on every control, such as on a network file system.
const SHARED: &str = "shared:";
/// What an address of a bucket begins with.
const BUCKET: &str = "s3://";
/// What the standard tools of S3 are told by the environment. A secret has no flag, which others would see.
const VARIABLES: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];
/// The region of servers that have none, by convention.
const REGION: &str = "us-east-1";

/// Variables that hold secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Foreign(BTreeMap<String, Secret<String>>);

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Foreign {
    /// Those of [`VARIABLES`] in an environment.
    pub(super) fn among(variables: &BTreeMap<String, String>) -> Foreign {
        let known = VARIABLES.iter().filter_map(|name| variables.get_key_value(*name));
        Foreign(known.map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect())
    }
}

/// Where artifacts are.
#[derive(Debug, Clone)]
pub(crate) enum BlobsAddress {
    /// A folder. That it is shared is for `settings::server` to ask.
    Folder(PathBuf),
    /// A bucket.
    Bucket(BucketOptions),
}

/// Whether several controls have the same artifacts there.
pub(super) fn are_shared(effective: &Effective) -> bool {
    let text = effective.text("blobs");
    text.starts_with(SHARED) || text.starts_with(BUCKET)
}

/// Reads it, with everything that a bucket needs.
pub(super) fn read(
    effective: &Effective,
    data_dir: &Path,
    faults: &mut Vec<Problem>,
) -> Option<BlobsAddress> {
    match effective.text("blobs") {
        "" => Some(BlobsAddress::Folder(data_dir.join("blobs"))),
        text if text.starts_with(BUCKET) => {
            let address = text.parse();
            let address =
                address.map_err(|problem: Problem| faults.push(effective.fault("blobs", problem.detail)));
            bucket(effective, address.ok(), faults).map(BlobsAddress::Bucket)
        }
        text => Some(BlobsAddress::Folder(PathBuf::from(text.strip_prefix(SHARED).unwrap_or(text)))),
    }
}

fn bucket(
    effective: &Effective,
    address: Option<BucketAddress>,
    faults: &mut Vec<Problem>,
) -> Option<BucketOptions> {
    let variable = |name: &str| {
        let value = effective.foreign.0.get(name).map(Secret::reveal);
        value.filter(|value| !value.is_empty()).cloned()
    };
    let said = |key: &str| Some(effective.text(key).to_owned()).filter(|text| !text.is_empty());
    let endpoint = said("s3.endpoint").or_else(|| variable("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.map(|url| url.trim_end_matches('/').to_owned());
    if endpoint.as_ref().is_some_and(|url| !is_endpoint(url)) {
        faults.push(Problem::invalid(
            "s3.endpoint (or AWS_ENDPOINT_URL) is not an address: write http://HOST:PORT or https://HOST[:PORT]",
        ));
    }
    let region =
        said("s3.region").or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let access = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) => Some(Access {
            key,
            secret: Secret::new(secret),
            session: variable("AWS_SESSION_TOKEN").map(Secret::new),
        }),
        _ => {
            faults.push(
                effective
                    .fault("blobs", "nobody says as whom the bucket is used")
                    .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"),
            );
            None
        }
    };
    let region = region.unwrap_or_else(|| REGION.to_owned());
    Some(BucketOptions { address: address?, endpoint, region, access: access? })
}

/// Whether it is a scheme and a host, with nothing secret before the host and nothing after.
fn is_endpoint(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
    })
}
