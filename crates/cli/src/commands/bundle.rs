//! `tutti debug bundle`: what there is to know of a cloud that is not well, in one file for somebody else to look at.
//!
//! It asks the API as any client does, part by part: what one does not answer is named in the file, and the others are
//! there all the same. What may stand in it is [`crate::redact`]'s to decide.

use super::{Session, now};
use crate::{exit::Failed, redact::redacted, text};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tutti_api::{
    Client,
    client::{AuditRequest, EventsRequest, Filter},
};
use tutti_model::{
    ErrorCode, Problem, Resource, Timestamp, cluster::MemberSpec, deployment::DeploymentSpec,
    instance::InstanceSpec, node::NodeSpec, resource::Object, route::RouteSpec, service::ServiceSpec,
    table::TableSpec, version::VersionSpec,
};

/// Most objects of one kind: of more than that nobody reads all, and the file is to be sent.
const OBJECTS: usize = 5000;
/// Most events, and most audit records: the newest.
const RECORDS: usize = 2000;
/// Longest to wait for one part.
const PATIENCE: Duration = Duration::from_secs(20);

/// The part that anybody is told.
const RELEASE: &str = "release";

const README: &str = "What `tutti debug bundle` found: one file for each part, as the API gives it.\n\
    index.json says when and by which release it was made, which parts could not be read and why, and of which\n\
    only the first objects are here.\n\
    Left out are values of environment variables, arguments of commands, values of secrets, tokens, keys, hashes\n\
    of these, and what instances wrote. Names of domains, services, machines, tokens and users, and addresses, are\n\
    in it.\n";

/// What became of it.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    parts: Vec<&'static str>,
    missing: Vec<Missing>,
}

/// A part that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Missing {
    part: &'static str,
    why: String,
}

pub(super) async fn bundle(session: &Session<'_>, file: Option<&Path>) -> Result<(), Failed> {
    let at = now();
    let file = file.map_or_else(|| PathBuf::from(named(at)), Path::to_owned);
    let mut bundle = Bundle::create(&file, at)?;
    let written = match bundle.gather(&session.client).await {
        // Of a cloud that answers nothing a file would say nothing.
        Ok(()) if bundle.parts.iter().all(|part| *part == RELEASE) => Err(bundle.nothing()),
        Ok(()) => bundle.finish(),
        Err(problem) => Err(problem),
    };
    let written = written.inspect_err(|_| drop(fs::remove_file(&file)))?;
    session.ui.result(&written, || picture(&written))
}

/// The name of a bundle that was made then.
fn named(at: Timestamp) -> String {
    let moment = text::moment(at);
    let moment: String = moment.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("tutti-debug-{moment}.tar.gz")
}

fn picture(written: &Written) -> String {
    let mut out = format!(
        "wrote {} ({}, {} parts)\n",
        written.file.display(),
        text::size(written.bytes),
        written.parts.len()
    );
    for missing in &written.missing {
        out.push_str(&format!("without {}: {}\n", missing.part, missing.why));
    }
    out.push_str(
        "it has names and addresses of this cloud, and no secrets: look through it before you send it\n",
    );
    out
}

/// A bundle that is being written.
struct Bundle {
    archive: tar::Builder<GzEncoder<BufWriter<File>>>,
    file: PathBuf,
    at: Timestamp,
    parts: Vec<&'static str>,
    missing: Vec<Missing>,
    /// Parts of which only the first objects are there.
    cut: Vec<&'static str>,
}

impl Bundle {
    /// Makes the file, which only its owner may read.
    fn create(file: &Path, at: Timestamp) -> Result<Bundle, Problem> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let made = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let text = format!("{} is there already", file.display());
                Problem::new(ErrorCode::AlreadyExists, text).hint("name another file, or remove that one")
            }
            _ => Problem::unavailable(format!("{} cannot be written: {error}", file.display())),
        })?;
        let out = GzEncoder::new(BufWriter::new(made), Compression::default());
        let archive = tar::Builder::new(out);
        let file = file.to_owned();
        Ok(Bundle { archive, file, at, parts: Vec::new(), missing: Vec::new(), cut: Vec::new() })
    }

    /// Asks for every part, what is small and says most first.
    async fn gather(&mut self, client: &Client) -> Result<(), Problem> {
        self.json(RELEASE, client.release()).await?;
        self.json("status", client.status()).await?;
        self.json("reconcilers", client.reconcilers()).await?;
        self.json("machines", async {
            let (now, machines) = client.machines().await?;
            Ok(json!({ "now": now, "items": machines }))
        })
        .await?;
        self.objects::<MemberSpec>("members", client).await?;
        self.objects::<NodeSpec>("nodes", client).await?;
        self.objects::<ServiceSpec>("services", client).await?;
        self.objects::<DeploymentSpec>("deployments", client).await?;
        self.objects::<TableSpec>("tables", client).await?;
        self.objects::<InstanceSpec>("instances", client).await?;
        self.objects::<VersionSpec>("versions", client).await?;
        self.objects::<RouteSpec>("routes", client).await?;
        let newest = EventsRequest { most: RECORDS, ..EventsRequest::default() };
        self.json("events", async { Ok(client.events(&newest).await?.items) }).await?;
        let newest = AuditRequest { most: RECORDS, ..AuditRequest::default() };
        self.json("audit", async { client.audit(&newest).await }).await?;
        self.text("metrics.txt", client.metrics()).await?;
        self.text("control.log", client.control_log()).await
    }

    /// A part as JSON, without what nobody else is to see.
    async fn json<T: Serialize>(
        &mut self,
        part: &'static str,
        asked: impl Future<Output = Result<T, Problem>>,
    ) -> Result<(), Problem> {
        let Some(value) = self.answer(part, asked).await else { return Ok(()) };
        let value = serde_json::to_value(&value).map_err(|error| Problem::internal(error.to_string()))?;
        self.add(part, &format!("{part}.json"), &pretty(&redacted(value))?)
    }

    /// Objects of a kind, as many as [`OBJECTS`].
    async fn objects<S: Object>(&mut self, part: &'static str, client: &Client) -> Result<(), Problem> {
        let asked = async {
            let (mut items, mut cursor): (Vec<Resource<S>>, _) = (Vec::new(), None::<String>);
            loop {
                let mut page = client.page::<S>(&Filter::default(), cursor.as_deref()).await?;
                items.append(&mut page.items);
                cursor = page.cursor;
                if cursor.is_none() || items.len() >= OBJECTS {
                    return Ok((items, cursor.is_some()));
                }
            }
        };
        let Some((items, more)) = self.answer(part, asked).await else { return Ok(()) };
        if more {
            self.cut.push(part);
        }
        self.json(part, std::future::ready(Ok(items))).await
    }

    async fn text(
        &mut self,
        part: &'static str,
        asked: impl Future<Output = Result<String, Problem>>,
    ) -> Result<(), Problem> {
        match self.answer(part, asked).await {
            Some(text) => self.add(part, part, text.as_bytes()),
            None => Ok(()),
        }
    }

    /// The answer, or a note that there is none.
    async fn answer<T>(
        &mut self,
        part: &'static str,
        asked: impl Future<Output = Result<T, Problem>>,
    ) -> Option<T> {
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        let answered = answered.unwrap_or_else(|_| {
            let text = format!("no answer within {} s", PATIENCE.as_secs());
            Err(Problem::new(ErrorCode::Timeout, text))
        });
        answered.map_err(|problem| self.missing.push(Missing { part, why: problem.to_string() })).ok()
    }

    fn add(&mut self, part: &'static str, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        self.append(name, bytes)?;
        self.parts.push(part);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.at.0 / 1000);
        let appended = self.archive.append_data(&mut header, format!("tutti-debug/{name}"), bytes);
        appended.map_err(|error| self.unwritable(&error))
    }

    /// Ends the file, with what it is and what it lacks.
    fn finish(mut self) -> Result<Written, Problem> {
        self.append("README.txt", README.as_bytes())?;
        let index = json!({
            "made_at": text::moment(self.at),
            "made_by": env!("CARGO_PKG_VERSION"),
            "parts": self.parts,
            "missing": self.missing,
            "cut": self.cut,
        });
        self.append("index.json", &pretty(&index)?)?;
        let Bundle { archive, file, parts, missing, .. } = self;
        let written = archive.into_inner().and_then(GzEncoder::finish).and_then(|mut out| {
            out.flush()?;
            let made = out.get_ref();
            made.sync_all()?;
            Ok(made.metadata()?.len())
        });
        let bytes = written.map_err(|error| unwritable(&file, &error))?;
        Ok(Written { file, bytes, parts, missing })
    }

    /// Why there is nothing to be put in it.
    fn nothing(&self) -> Problem {
        let first = self.missing.first();
        let why = first.map_or_else(String::new, |missing| format!(": {}: {}", missing.part, missing.why));
        Problem::unavailable(format!("the cloud answers nothing that could be bundled{why}"))
    }

    fn unwritable(&self, error: &io::Error) -> Problem {
        unwritable(&self.file, error)
    }
}

fn unwritable(file: &Path, error: &io::Error) -> Problem {
    Problem::unavailable(format!("{} cannot be written: {error}", file.display()))
}

fn pretty(value: &Value) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec_pretty(value).map_err(|error| Problem::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_bundle_is_its_owners_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(named(Timestamp(1_790_000_000_123)));
        assert!(file.ends_with("tutti-debug-20260921T141320123Z.tar.gz"), "{file:?}");
        let mut bundle = Bundle::create(&file, Timestamp(1)).unwrap();
        bundle.missing.push(Missing { part: "audit", why: "forbidden".into() });
        bundle.add("status", "status.json", b"{}").unwrap();
        let written = bundle.finish().unwrap();
        assert_eq!(written.bytes, fs::metadata(&file).unwrap().len());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = Bundle::create(&file, Timestamp(1)).err().unwrap();
        assert_eq!(refused.code, ErrorCode::AlreadyExists);
        assert!(picture(&written).contains("without audit: forbidden"));
    }
}
