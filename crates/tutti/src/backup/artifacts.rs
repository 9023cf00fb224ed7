//! Artifacts in a backup: which the state refers to, their blobs on the way into the file and out of it.
//!
//! One piece of one blob is in memory at a time, whatever there is. What is known of them all is one digest for each
//! version.

use super::{
    format::{Writer, damaged},
    pieces::{BLOB_PIECE, Head, Piece, Shown},
};
use crate::settings::{BlobsAddress, Settings};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Write,
    mem,
    sync::Arc,
};
use tutti_base::sha256::Hasher;
use tutti_control::Objects;
use tutti_model::{
    Digest, ErrorCode, Problem, Resource, ServiceRef, VersionRef, instance::InstanceSpec,
    version::VersionSpec,
};
use tutti_registry::{BlobError, Blobs, BucketBlobs, FolderBlobs, OciManifest, Upload, blobs::Pieces};
use tutti_store::backup::Pair;

/// Most artifacts that are looked for in the target's blobs after a restore: each costs some requests to a bucket.
const LOOKED_FOR: usize = 10_000;
/// Most that are named as missing.
const NAMED: usize = 100;

/// Opens the blobs that these settings name. The data folder may be in use: folders of blobs can be shared.
///
/// # Errors
/// `unavailable` if the folder or the bucket cannot be used.
pub(super) async fn open(settings: &Settings) -> Result<Arc<dyn Blobs>, Problem> {
    match &settings.blobs {
        BlobsAddress::Folder(path) => Ok(Arc::new(FolderBlobs::open(path.clone()).await?)),
        BlobsAddress::Bucket(options) => {
            let spool = FolderBlobs::open(settings.data_dir.join("blobs")).await?;
            Ok(Arc::new(BucketBlobs::open(options.clone(), spool).await?))
        }
    }
}

/// The artifacts that a state refers to, each with a version that has it.
#[derive(Debug)]
pub(super) struct References {
    versions: String,
    instances: String,
    found: BTreeMap<(ServiceRef, Digest), VersionRef>,
}

impl References {
    /// None yet; `objects` say where in a store versions and instances are.
    pub(super) fn new(objects: &Objects) -> References {
        References {
            versions: objects.key::<VersionSpec>(""),
            instances: objects.key::<InstanceSpec>(""),
            found: BTreeMap::new(),
        }
    }

    /// Takes down what these keys refer to.
    ///
    /// # Errors
    /// `internal` for an object that cannot be read.
    pub(super) fn see(&mut self, pairs: &[Pair]) -> Result<(), Problem> {
        for (key, value) in pairs {
            let unreadable =
                |error: serde_json::Error| Problem::internal(format!("{key} cannot be read: {error}"));
            let (version, artifact) = if key.starts_with(&self.versions) {
                let version: Resource<VersionSpec> = serde_json::from_slice(value).map_err(unreadable)?;
                (version.spec.version, version.spec.artifact)
            } else if key.starts_with(&self.instances) {
                let instance: Resource<InstanceSpec> = serde_json::from_slice(value).map_err(unreadable)?;
                (instance.spec.version, instance.spec.artifact)
            } else {
                continue;
            };
            self.found.entry((version.service.clone(), artifact)).or_insert(version);
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let digests: BTreeSet<&Digest> = self.found.keys().map(|(_, artifact)| artifact).collect();
        digests.len()
    }

    /// Those that these blobs lack, in part or whole; the first ones, and how many there are. Of more than
    /// [`LOOKED_FOR`] the rest is not looked for.
    ///
    /// # Errors
    /// What keeps the blobs from being read.
    pub(super) async fn missing(&self, blobs: &dyn Blobs) -> Result<Missing, Problem> {
        let mut missing = Missing::default();
        for ((service, artifact), version) in self.found.iter().take(LOOKED_FOR) {
            let there = match tutti_registry::shows(blobs, service, artifact).await {
                Ok(true) => present(blobs, artifact).await?,
                Ok(false) => false,
                Err(problem) if is_lost(blobs, artifact, &problem).await? => false,
                Err(problem) => return Err(problem),
            };
            if !there {
                missing.add(version, artifact);
            }
        }
        missing.unlooked = self.found.len().saturating_sub(LOOKED_FOR);
        Ok(missing)
    }
}

/// Whether a manifest's problem is that it is not there, or is none. A damaged one was moved aside when it was read.
async fn is_lost(blobs: &dyn Blobs, artifact: &Digest, problem: &Problem) -> Result<bool, Problem> {
    let is_none = matches!(problem.code, ErrorCode::NotFound | ErrorCode::Invalid);
    Ok(is_none || blobs.size(artifact).await?.is_none())
}

/// Whether all that an artifact refers to is there.
async fn present(blobs: &dyn Blobs, artifact: &Digest) -> Result<bool, Problem> {
    let manifest = OciManifest::load(blobs, artifact).await?;
    for reference in manifest.references() {
        if blobs.size(&reference.digest).await? != Some(reference.size) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Artifacts that are not where they should be.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// The first ones: a version, and its artifact.
    pub(super) named: Vec<(VersionRef, Digest)>,
    /// How many there are.
    pub(super) count: usize,
    /// How many were not looked for.
    pub(super) unlooked: usize,
}

impl Missing {
    fn add(&mut self, version: &VersionRef, artifact: &Digest) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((version.clone(), artifact.clone()));
        }
    }
}

/// What went into a file, or came out of it.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Blobs.
    pub(super) blobs: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// What is not in it, since it was not where it should be.
    pub(super) missing: Missing,
}

/// Writes every artifact that is referred to, each blob once.
///
/// # Errors
/// What keeps blobs from being read or the file from being written; one that is lost or damaged is left out, and told.
pub(super) async fn write<W: Write>(
    blobs: &dyn Blobs,
    references: &References,
    writer: &mut Writer<W>,
) -> Result<Carried, Problem> {
    let (mut carried, mut written) = (Carried::default(), HashSet::new());
    for ((service, artifact), version) in &references.found {
        let manifest = match OciManifest::load(blobs, artifact).await {
            Ok(manifest) => manifest,
            Err(problem) if is_lost(blobs, artifact, &problem).await? => {
                carried.missing.add(version, artifact);
                continue;
            }
            Err(problem) => return Err(problem),
        };
        let mut parts = vec![artifact.clone()];
        parts.extend(manifest.references().map(|reference| reference.digest.clone()));
        let mut is_whole = true;
        for part in &parts {
            is_whole = written.contains(part) || one(blobs, part, writer, &mut carried).await?;
            if !is_whole {
                break;
            }
            written.insert(part.clone());
        }
        if is_whole {
            writer.piece(&Piece::Shown(Shown { service: service.clone(), blobs: parts }))?;
        } else {
            carried.missing.add(version, artifact);
        }
    }
    Ok(carried)
}

/// Writes one blob; whether it was there and whole.
async fn one<W: Write>(
    blobs: &dyn Blobs,
    digest: &Digest,
    writer: &mut Writer<W>,
    carried: &mut Carried,
) -> Result<bool, Problem> {
    let Some(size) = blobs.size(digest).await? else { return Ok(false) };
    let pieces = match blobs.read(digest, 0..size).await {
        Ok(pieces) => pieces,
        Err(BlobError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    writer.piece(&Piece::Blob(Head { digest: digest.clone(), size }))?;
    let found = copy(digest, pieces, writer).await?;
    let whole = found == (digest.clone(), size);
    writer.piece(&Piece::BlobEnd { whole })?;
    if whole {
        carried.blobs += 1;
        carried.bytes += size;
    }
    Ok(whole)
}

/// Writes the bytes of a blob; gives what they are.
async fn copy<W: Write>(
    digest: &Digest,
    mut pieces: Pieces,
    writer: &mut Writer<W>,
) -> Result<(Digest, u64), Problem> {
    let (mut hasher, mut size, mut waiting) = (Hasher::default(), 0u64, Vec::with_capacity(BLOB_PIECE));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            Problem::unavailable(format!("blob {digest} cannot be read: {error}"))
                .hint("begin the backup again; without --artifacts it has the state alone")
        })?;
        hasher.update(&piece);
        size = size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let mut rest = piece.as_ref();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOB_PIECE - waiting.len()));
            waiting.extend_from_slice(now);
            rest = later;
            if waiting.len() == BLOB_PIECE {
                let full = mem::replace(&mut waiting, Vec::with_capacity(BLOB_PIECE));
                writer.piece(&Piece::Bytes(full))?;
            }
        }
    }
    if !waiting.is_empty() {
        writer.piece(&Piece::Bytes(waiting))?;
    }
    Ok((hasher.finish(), size))
}

/// Artifacts on their way out of a file: into blobs, or, without any, only looked at.
pub(super) struct Incoming {
    blobs: Option<Arc<dyn Blobs>>,
    coming: Option<Coming>,
    come: HashSet<Digest>,
    pub(super) carried: Carried,
}

/// The blob that comes.
struct Coming {
    head: Head,
    hasher: Hasher,
    taken: u64,
    upload: Option<Box<dyn Upload>>,
}

impl Incoming {
    /// Into these blobs.
    pub(super) fn new(blobs: Option<Arc<dyn Blobs>>) -> Incoming {
        Incoming { blobs, coming: None, come: HashSet::new(), carried: Carried::default() }
    }

    /// A blob begins.
    pub(super) async fn begin(&mut self, head: Head) -> Result<(), Problem> {
        if self.coming.is_some() {
            return Err(damaged("a blob has no end"));
        }
        let upload = match &self.blobs {
            Some(blobs) => Some(blobs.upload().await?),
            None => None,
        };
        self.coming = Some(Coming { head, hasher: Hasher::default(), taken: 0, upload });
        Ok(())
    }

    /// Bytes of it.
    pub(super) async fn bytes(&mut self, bytes: Vec<u8>) -> Result<(), Problem> {
        let coming = self.coming.as_mut().ok_or_else(|| damaged("there are bytes of no blob"))?;
        coming.hasher.update(&bytes);
        coming.taken = coming.taken.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if coming.taken > coming.head.size {
            return Err(damaged(format!("blob {} is longer than it says", coming.head.digest)));
        }
        if let Some(upload) = &mut coming.upload {
            upload.write(Bytes::from(bytes)).await?;
        }
        Ok(())
    }

    /// It ends. One that was not whole when it was read is dropped.
    pub(super) async fn end(&mut self, whole: bool) -> Result<(), Problem> {
        let coming = self.coming.take().ok_or_else(|| damaged("a blob ends that did not begin"))?;
        if !whole {
            return Ok(());
        }
        let Head { digest, size } = coming.head;
        if coming.taken != size || coming.hasher.finish() != digest {
            return Err(damaged(format!("blob {digest} is another")));
        }
        if let Some(upload) = coming.upload {
            upload.commit(&digest).await?;
        }
        self.carried.blobs += 1;
        self.carried.bytes += size;
        self.come.insert(digest);
        Ok(())
    }

    /// A repository shows an artifact.
    pub(super) async fn shown(&mut self, shown: &Shown) -> Result<(), Problem> {
        for digest in &shown.blobs {
            if !self.come.contains(digest) {
                return Err(damaged(format!("blob {digest} is missing")));
            }
            if let Some(blobs) = &self.blobs {
                blobs.link(&shown.service, digest).await?;
            }
        }
        Ok(())
    }
}
