//! Every stored form ever released still decodes.
//!
//! `goldens/KIND.SAMPLE.N.json` holds how an object was encoded when it was written; `goldens/digests.txt` says what each
//! file held, so that none is ever changed. A sample whose encoding is a new one, since a kind or field is new, is kept
//! as the next `N` by
//!
//! ```text
//! TUTTI_GOLDENS=write cargo nextest run --workspace -E 'binary(goldens)'
//! ```
//!
//! Old files stay: they are what older releases have stored.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod global;
mod zone;

use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};
use tutti_model::{
    Kind, Resource, assignment::AssignmentSpec, audit::AuditSpec, claim::AliasSpec, claim::ClaimSpec,
    cluster::AuthoritySpec, cluster::ClusterSpec, cluster::JoinTokenSpec, cluster::MemberSpec,
    control::LeaderSpec, control::PresenceSpec, deployment::DeploymentSpec, domain::DomainSpec,
    event::EventSpec, ingress::IngressSpec, instance::InstanceSpec, node::NodeSpec, pool::PoolSpec,
    quota::QuotaSpec, report::ReportSpec, resource::Object, route::RouteSpec, secret::SecretSpec,
    service::ServiceSpec, table::TableSpec, token::TokenSpec, user::UserSpec, version::VersionSpec,
    zone::ZoneSpec,
};

/// An object as it is stored today.
struct Sample {
    kind: Kind,
    name: &'static str,
    stored: Value,
}

impl Sample {
    fn new<S: Object>(name: &'static str, object: &Resource<S>) -> Sample {
        Sample { kind: S::KIND, name, stored: serde_json::to_value(object).unwrap() }
    }

    fn stem(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }
}

fn samples() -> Vec<Sample> {
    global::samples().into_iter().chain(zone::samples()).collect()
}

/// An object with the same of everything that each has.
fn object<S: Object>(name: &str, spec: S, status: S::Status) -> Resource<S> {
    Resource { status, ..Resource::new(name, uid(), tutti_model::Timestamp(1_700_000_000_000), spec) }
}

fn uid() -> tutti_model::Uid {
    tutti_model::Uid::from_bits(42)
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("\"{text}\" is none"))
}

/// Reads what is stored as this kind, and gives it as it is stored today.
fn read_and_write(kind: Kind, stored: &Value) -> Result<Value, serde_json::Error> {
    fn through<S: Object>(stored: &Value) -> Result<Value, serde_json::Error> {
        serde_json::to_value(Resource::<S>::deserialize(stored)?)
    }
    use serde::Deserialize as _;
    match kind {
        Kind::Domain => through::<DomainSpec>(stored),
        Kind::Service => through::<ServiceSpec>(stored),
        Kind::Version => through::<VersionSpec>(stored),
        Kind::Deployment => through::<DeploymentSpec>(stored),
        Kind::Route => through::<RouteSpec>(stored),
        Kind::Zone => through::<ZoneSpec>(stored),
        Kind::Token => through::<TokenSpec>(stored),
        Kind::User => through::<UserSpec>(stored),
        Kind::Claim => through::<ClaimSpec>(stored),
        Kind::Alias => through::<AliasSpec>(stored),
        Kind::Secret => through::<SecretSpec>(stored),
        Kind::Quota => through::<QuotaSpec>(stored),
        Kind::Report => through::<ReportSpec>(stored),
        Kind::Assignment => through::<AssignmentSpec>(stored),
        Kind::Node => through::<NodeSpec>(stored),
        Kind::Instance => through::<InstanceSpec>(stored),
        Kind::Table => through::<TableSpec>(stored),
        Kind::Ingress => through::<IngressSpec>(stored),
        Kind::Presence => through::<PresenceSpec>(stored),
        Kind::Leader => through::<LeaderSpec>(stored),
        Kind::Cluster => through::<ClusterSpec>(stored),
        Kind::Authority => through::<AuthoritySpec>(stored),
        Kind::Member => through::<MemberSpec>(stored),
        Kind::JoinToken => through::<JoinTokenSpec>(stored),
        Kind::Audit => through::<AuditSpec>(stored),
        Kind::Event => through::<EventSpec>(stored),
        Kind::Pool => through::<PoolSpec>(stored),
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// Every file ever kept, by name: `KIND.SAMPLE.N.json`.
fn kept() -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let json = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let named = json.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    named.collect()
}

/// A file's kind, and its sample's number.
fn parts(file: &str) -> (Kind, String, u32) {
    let stem = file.strip_suffix(".json").unwrap();
    let (sample, number) = stem.rsplit_once('.').unwrap();
    (parse(sample.split_once('.').unwrap().0), sample.to_owned(), parse(number))
}

/// FNV-1a over 64 bits: enough to tell that a file is not what it was.
fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Keeps what is new. Nothing that is there is touched.
fn write() {
    let mut kept = kept();
    let mut digests = fs::read_to_string(folder().join("digests.txt")).unwrap_or_default();
    for sample in samples() {
        let of = kept.iter().filter(|(file, _)| parts(file).1 == sample.stem());
        let newest = of.max_by_key(|(file, _)| parts(file).2);
        let number = newest.map_or(0, |(file, _)| parts(file).2) + 1;
        if newest.is_some_and(|(_, text)| serde_json::from_str::<Value>(text).unwrap() == sample.stored) {
            continue;
        }
        let (file, text) = (format!("{}.{number}.json", sample.stem()), format!("{:#}\n", sample.stored));
        fs::write(folder().join(&file), &text).unwrap();
        digests.push_str(&format!("{} {file}\n", digest(&text)));
        kept.insert(file, text);
    }
    fs::write(folder().join("digests.txt"), digests).unwrap();
}

/// Everything in `old` is in `new`, whatever else is.
fn lost(old: &Value, new: &Value, at: &str) -> Option<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old.iter().find_map(|(key, old)| match new.get(key) {
            Some(new) => lost(old, new, &format!("{at}.{key}")),
            None => Some(format!("{at}.{key}")),
        }),
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => old
            .iter()
            .zip(new)
            .enumerate()
            .find_map(|(index, (old, new))| lost(old, new, &format!("{at}[{index}]"))),
        (old, new) => (old != new).then(|| at.to_owned()),
    }
}

/// The keys under which an object is no struct: a map of names, a variant with its value, or a value as it is.
const NO_STRUCTS: [&str; 12] = [
    "labels", "env", "secrets", "split", "from", "before", "after", "backend", "target", "state", "probe",
    "previous",
];

/// The same from a release that knows one more field of everything.
fn from_a_later_release(stored: &Value, is_struct: bool) -> Value {
    match stored {
        Value::Object(fields) => {
            let known = fields.iter().map(|(key, value)| {
                (key.clone(), from_a_later_release(value, !NO_STRUCTS.contains(&key.as_str())))
            });
            let new = is_struct.then(|| ("not_known_yet".to_owned(), serde_json::json!({ "a": [1] })));
            Value::Object(known.chain(new).collect())
        }
        Value::Array(items) => items.iter().map(|item| from_a_later_release(item, is_struct)).collect(),
        plain => plain.clone(),
    }
}

#[test]
fn every_stored_form_has_its_golden() {
    if std::env::var("TUTTI_GOLDENS").as_deref() == Ok("write") {
        write();
    }
    let (kept, samples) = (kept(), samples());
    for kind in Kind::ALL {
        let of = samples.iter().filter(|sample| sample.kind == kind).count();
        assert!(of > 0, "there is no sample of kind {kind}: add one to tests/goldens");
    }
    for sample in samples {
        let of = kept.iter().filter(|(file, _)| parts(file).1 == sample.stem());
        let newest = of.max_by_key(|(file, _)| parts(file).2);
        let newest = newest.map(|(_, text)| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(
            newest.as_ref(),
            Some(&sample.stored),
            "{} is stored in a new form: keep it, with the command at the head of tests/goldens/main.rs",
            sample.stem()
        );
    }
}

#[test]
fn every_golden_decodes_and_loses_nothing() {
    for (file, text) in kept() {
        let (kind, ..) = parts(&file);
        let old: Value = serde_json::from_str(&text).unwrap();
        let new = read_and_write(kind, &old).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"));
        assert_eq!(lost(&old, &new, ""), None, "{file} loses a field, or has another value there");
        assert_eq!(read_and_write(kind, &new).unwrap(), new, "{file} changes each time it is written");
    }
}

/// Roles one release apart work together: what a later one adds, an older one passes over.
#[test]
fn a_golden_with_fields_of_a_later_release_decodes() {
    for (file, text) in kept() {
        let (kind, ..) = parts(&file);
        let known: Value = serde_json::from_str(&text).unwrap();
        let read = read_and_write(kind, &from_a_later_release(&known, true));
        let read = read.unwrap_or_else(|error| panic!("{file} of a later release cannot be read: {error}"));
        assert_eq!(read, read_and_write(kind, &known).unwrap(), "{file}");
    }
}

#[test]
fn no_golden_was_ever_changed() {
    let digests = fs::read_to_string(folder().join("digests.txt")).unwrap_or_default();
    let noted: BTreeMap<String, String> = digests
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(digest, file)| (file.to_owned(), digest.to_owned()))
        .collect();
    let is: BTreeMap<String, String> =
        kept().iter().map(|(file, text)| (file.clone(), digest(text))).collect();
    assert_eq!(is, noted, "a golden is what a release has stored: add files, and change or remove none");
}
