//! `tutti push`

mod ready;

use super::Session;
use crate::{
    args::PushArgs,
    exit::{Failed, INTERRUPTED},
    push::{Blob, EMPTY, Image, MANIFEST_TYPE, Prepared, prepare, prepare_grpc},
    text,
    ui::Tone,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use ready::{Known, Readiness};
use serde::Serialize;
use std::{io, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tutti_api::{client::BlobSource, wire::CreateVersion};
use tutti_model::{ErrorCode, Problem, ServiceRef, VersionRef, name::VersionText, version::VersionSpec};

/// Pieces that may wait to be sent; with their size, what an upload holds in memory.
const PIECES: usize = 8;
/// Size of one piece, in bytes.
const PIECE: usize = 256 * 1024;

/// What was pushed.
#[derive(Serialize)]
struct Pushed {
    version: VersionRef,
    artifact: tutti_model::Digest,
    size: u64,
    isolate: tutti_model::version::Isolate,
    /// Whether any bytes had to be sent.
    uploaded: bool,
    /// Whether nodes hold it ready to start.
    #[serde(flatten)]
    known: Known,
}

/// Pushes, unless interrupted: then nothing is left but bytes without a name, which the registry clears away. Waits
/// until it is known whether nodes hold the version ready.
pub(super) async fn push(session: &Session<'_>, args: &PushArgs) -> Result<(), Failed> {
    let mut pushed = tokio::select! {
        done = stored(session, args) => done?,
        _ = tokio::signal::ctrl_c() => return interrupted(session, &format!("{} was not pushed", args.version)),
    };
    let patience = ready::patience(args.timeout);
    if !args.no_wait {
        pushed.known = tokio::select! {
            known = ready::wait(session, &pushed.version, patience) => known?,
            _ = tokio::signal::ctrl_c() => {
                return interrupted(session, &format!("{} is pushed, and nodes go on making it ready", args.version));
            }
        };
    }
    session.ui.result(&pushed, || said(session, &pushed))?;
    match pushed.known.failure(&text::version(&pushed.version), patience) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

fn interrupted<T>(session: &Session<'_>, what: &str) -> Result<T, Failed> {
    // A bar may stand in this line.
    let line = if session.ui.err_terminal { "\r\x1b[2K" } else { "" };
    session.ui.note(&format!("{line}interrupted: {what}"));
    Err(Failed::Said(INTERRUPTED))
}

async fn stored(session: &Session<'_>, args: &PushArgs) -> Result<Pushed, Failed> {
    let prepared = looked_at(args).await?;
    let service = session.resolve_own(&args.version.service).await?;
    let version = service.at(args.version.version.clone());
    let (prepared, image) = measured(prepared, &version).await?;
    let uploaded = upload(session, &service, &prepared, &image).await?;
    let create = CreateVersion {
        version: VersionText { service: args.version.service.clone(), version: version.version.clone() },
        artifact: image.digest.clone(),
        size: image.size,
        isolate: prepared.isolate,
        manifest: prepared.manifest.clone(),
    };
    match session.client.create_version(&create).await {
        Ok(_) => {}
        Err(problem) if problem.code == ErrorCode::AlreadyExists => {
            already(session, &version, &create, problem).await?
        }
        Err(problem) => return Err(problem.into()),
    }
    let isolate = prepared.isolate;
    Ok(Pushed { version, artifact: image.digest, size: image.size, isolate, uploaded, known: Known::NOTHING })
}

/// Looks at everything on this machine. Nothing is sent if anything is wrong.
async fn looked_at(args: &PushArgs) -> Result<Prepared, Failed> {
    let args = args.clone();
    off_thread(move || match args.paths.as_slice() {
        [proto, path] => {
            let service = args.version.service.service.as_str();
            prepare_grpc(proto, &args.proto_path, path, service, args.manifest.as_deref())
        }
        [path] => prepare(path, args.manifest.as_deref()),
        _ => Err(vec![Problem::invalid("one PATH is wanted, or a .proto and its component")]),
    })
    .await?
    .map_err(Failed::Faults)
}

async fn measured(prepared: Prepared, version: &VersionRef) -> Result<(Arc<Prepared>, Image), Failed> {
    let (prepared, name) = (Arc::new(prepared), version.version.clone());
    let of = prepared.clone();
    let image = off_thread(move || Image::of(&of, &name)).await??;
    Ok((prepared, image))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Failed::Problem(Problem::internal(format!("reading what is pushed ended early: {error}")))
    })
}

/// Sends what the registry does not have, the manifest last.
async fn upload(
    session: &Session<'_>,
    service: &ServiceRef,
    prepared: &Arc<Prepared>,
    image: &Image,
) -> Result<bool, Failed> {
    let client = &session.client;
    if client.has_manifest(service, &image.digest).await? {
        return Ok(false);
    }
    small(session, service, &image.config, Bytes::from_static(EMPTY)).await?;
    if let (Some(blob), Some(bytes)) = (&image.descriptors, &prepared.descriptors) {
        small(session, service, blob, bytes.clone().into()).await?;
    }
    let Blob { digest, size } = &image.layer;
    let missing = !client.has_blob(service, digest).await?;
    if missing {
        let bar = bar(session, *size);
        let moved = bar.clone();
        let source = source(prepared.clone(), *size);
        let sent = client.put_blob(service, digest, *size, source, move |sent| moved.set_position(sent));
        let sent = sent.await;
        bar.finish_and_clear();
        sent?;
    }
    client.put_manifest(service, &image.digest, MANIFEST_TYPE, image.manifest.clone()).await?;
    Ok(missing)
}

/// Sends a blob that is in memory, if the registry does not have it.
async fn small(session: &Session<'_>, service: &ServiceRef, blob: &Blob, bytes: Bytes) -> Result<(), Failed> {
    if !session.client.has_blob(service, &blob.digest).await? {
        let source = stream::iter([Ok(bytes)]).boxed();
        session.client.put_blob(service, &blob.digest, blob.size, source, |_| ()).await?;
    }
    Ok(())
}

fn bar(session: &Session<'_>, size: u64) -> ProgressBar {
    if !session.ui.err_terminal {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "pushing  {bar:30}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}",
    );
    ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The bytes of the layer, as long as they are those that were measured.
fn source(prepared: Arc<Prepared>, size: u64) -> BlobSource {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { sender, piece: Vec::with_capacity(PIECE), left: size };
        let written = prepared.content.write(&mut pieces).and_then(|()| pieces.end());
        if let Err(error) = written {
            // Nobody to tell if the upload has ended meanwhile.
            let _ = pieces.sender.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(receiver).boxed()
}

/// Cuts what is written into pieces and hands them over.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    left: u64,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("it changed while it was read"));
        }
        self.hand_over()
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left =
            self.left.checked_sub(length).ok_or_else(|| io::Error::other("it changed while it was read"))?;
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A version that is there already is no fault if it is this one.
async fn already(
    session: &Session<'_>,
    version: &VersionRef,
    create: &CreateVersion,
    problem: Problem,
) -> Result<(), Failed> {
    let there = session.client.get::<VersionSpec>(&version.to_string()).await?;
    let same = there.spec.artifact == create.artifact && there.spec.manifest == create.manifest;
    if same { Ok(()) } else { Err(problem.into()) }
}

fn said(session: &Session<'_>, pushed: &Pushed) -> String {
    let sent = if pushed.uploaded { "" } else { "; its bytes were there already" };
    let name = text::version(&pushed.version);
    let mut out = format!(
        "{} {name}\n  {}, {}, artifact {}{sent}\n",
        session.ui.paint(Tone::Good, "pushed"),
        pushed.isolate,
        text::size(pushed.size),
        pushed.artifact.short(),
    );
    if let Some(line) = pushed.known.line() {
        out.push_str(&format!("  {}\n", session.ui.wrap(&text::harmless(&line), 2)));
    }
    if pushed.known.readiness != Readiness::Unrunnable && pushed.known.readiness != Readiness::Serving {
        out.push_str(&format!("deploy it with: tutti deploy {name} 100%\n"));
    }
    out
}
