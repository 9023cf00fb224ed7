//! What a request's path under `/v2` means. Pure, and the only place that knows: whoever decides who may push and pull
//! reads paths with the same function that serves them.

use tutti_model::{Digest, ServiceRef};

/// The object that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/v2/`: whether there is a registry here.
    Root,
    /// Something in a repository.
    In(ServiceRef, Item),
}

/// The object inside its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `blobs/uploads/`: where uploads start.
    Uploads,
    /// `blobs/uploads/ID`: an upload under way.
    Upload(String),
    /// `blobs/DIGEST`.
    Blob(Digest),
    /// `manifests/DIGEST`.
    Manifest(Digest),
    /// `manifests/TAG`.
    Tag(String),
}

/// Why a path names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing of the distribution API.
    #[error("\"{0}\" is not part of the distribution API served here")]
    Unknown(String),
    /// The repository is not `DOMAIN/SERVICE`.
    #[error("repository \"{name}\" is not DOMAIN/SERVICE: {why}")]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The digest cannot be read.
    #[error("{0}")]
    Digest(String),
}

/// Longest path read, in bytes: a domain, a service, the words between and a digest fit with room to spare.
const PATH_BYTES: usize = 1024;

impl Target {
    /// Reads the path of a request, as it came. Percent-encoding is not undone, so that no encoded separator can mean
    /// one thing here and another elsewhere; only the colon of a digest, which some clients encode, is accepted so.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let unknown = || PathError::Unknown(path.chars().take(PATH_BYTES).collect());
        if path.len() > PATH_BYTES {
            return Err(unknown());
        }
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Target::Root),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown()),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (name, item) = match parts.as_slice() {
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => (name, Item::Uploads),
            [name @ .., "blobs", "uploads", id] => (name, Item::Upload((*id).to_owned())),
            [name @ .., "blobs", digest] => (name, Item::Blob(parse_digest(digest)?)),
            [name @ .., "manifests", reference] if reference.contains(':') || reference.contains('%') => {
                (name, Item::Manifest(parse_digest(reference)?))
            }
            [name @ .., "manifests", tag] if !tag.is_empty() => (name, Item::Tag((*tag).to_owned())),
            _ => return Err(unknown()),
        };
        Ok(Target::In(parse_repository(name)?, item))
    }
}

fn parse_repository(parts: &[&str]) -> Result<ServiceRef, PathError> {
    let wrong = |why: String| PathError::Name { name: parts.join("/"), why };
    match parts {
        [domain, service] => Ok(ServiceRef {
            domain: domain.parse().map_err(|problem: tutti_model::Problem| wrong(problem.detail))?,
            service: service.parse().map_err(|problem: tutti_model::Problem| wrong(problem.detail))?,
        }),
        _ => Err(wrong(format!("it has {} parts, not 2", parts.len()))),
    }
}

/// Reads a digest out of a path or a query.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, PathError> {
    let text = text.replacen("%3A", ":", 1).replacen("%3a", ":", 1);
    text.parse().map_err(|problem: tutti_model::Problem| PathError::Digest(problem.detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn web(item: Item) -> Target {
        Target::In("example.com:web".parse().unwrap(), item)
    }

    #[test]
    fn reads_every_path_of_the_api() {
        let parse = |path: &str| Target::parse(path).unwrap();
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        assert_eq!(parse("/v2/"), Target::Root);
        assert_eq!(parse("/v2"), Target::Root);
        assert_eq!(parse("/v2/example.com/web/blobs/uploads/"), web(Item::Uploads));
        assert_eq!(parse("/v2/example.com/web/blobs/uploads"), web(Item::Uploads));
        assert_eq!(parse("/v2/example.com/web/blobs/uploads/4f"), web(Item::Upload("4f".to_owned())));
        assert_eq!(
            parse(&format!("/v2/example.com/web/blobs/sha256:{HEX}")),
            web(Item::Blob(digest.clone()))
        );
        assert_eq!(
            parse(&format!("/v2/example.com/web/blobs/sha256%3A{HEX}")),
            web(Item::Blob(digest.clone()))
        );
        assert_eq!(
            parse(&format!("/v2/example.com/web/manifests/sha256:{HEX}")),
            web(Item::Manifest(digest))
        );
        assert_eq!(parse("/v2/example.com/web/manifests/1.0"), web(Item::Tag("1.0".to_owned())));
        let qualified = parse("/v2/example.com/com.example.HelloWorld/manifests/1.0");
        assert!(matches!(qualified, Target::In(repository, _)
            if repository.to_string() == "example.com:com.example.HelloWorld"));
        // A service may be called like a word of the API.
        assert!(Target::parse("/v2/example.com/blobs/blobs/uploads/").is_ok());
    }

    #[test]
    fn says_what_is_wrong() {
        let text = |path: &str| Target::parse(path).unwrap_err().to_string();
        assert_eq!(text("/v2/_catalog"), "\"/v2/_catalog\" is not part of the distribution API served here");
        assert_eq!(
            text("/v2/web/manifests/1.0"),
            "repository \"web\" is not DOMAIN/SERVICE: it has 1 parts, not 2"
        );
        assert!(text("/v2/example.com/../manifests/1").contains("repository \"example.com/..\""));
        assert!(text("/v2/../web/manifests/1").contains("repository \"../web\""));
        assert!(text("/v2/example.com/%2e%2e/manifests/1").contains("is not DOMAIN/SERVICE"));
        assert!(text("/v2/example.com//manifests/1").contains("a service's name is missing"));
        assert!(text("/v2/example.com/web/blobs/sha256:../../../etc/passwd").contains("not part of"));
        assert!(text("/v2/example.com/web/blobs/sha512:00").contains("is not a digest"));
        assert!(text(&format!("/v2/{}", "a/".repeat(1000))).len() < 1200);
    }

    proptest! {
        #[test]
        fn no_path_reaches_outside(path in "(/v2)?(/|\\.|\\.\\.|%2[eEfF]|[a-zA-Z0-9:@_\\\\-]){0,40}") {
            if let Ok(Target::In(repository, item)) = Target::parse(&path) {
                let joined = std::path::Path::new("root")
                    .join(repository.domain.as_str())
                    .join(repository.service.as_str());
                prop_assert_eq!(joined.components().count(), 3);
                prop_assert!(joined.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                if let Item::Blob(digest) | Item::Manifest(digest) = item {
                    prop_assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
                }
            }
        }
    }
}
