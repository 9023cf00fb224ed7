//! A member's own key, which never leaves it, and the chain that names it.

use crate::{Chain, MemberId, authority::public_digest};
use arc_swap::ArcSwapOption;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use tutti_model::{Digest, ErrorCode, Problem, Timestamp};

/// The key's file, as PKCS #8.
const KEY: &str = "key.der";
/// The chain's file.
const CHAIN: &str = "chain.pem";
/// Largest file that is read here, in bytes: as a chain in PEM may have.
const FILE_BYTES: u64 = 64 * 1024;

/// The key of a member in a folder of its own, with the chain that its cluster gave it last. Both ends of TLS read it
/// from here at each handshake, so a renewed chain is shown by the next one and touches no connection.
pub struct Identity {
    folder: PathBuf,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    current: ArcSwapOption<Current>,
}

struct Current {
    chain: Chain,
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity in this folder; a key is made if there is none yet, and the folder too.
    ///
    /// # Errors
    /// `forbidden` if others than its owner may read the key; `invalid` if a file there cannot be read as what it is;
    /// `unavailable` if the disk refuses.
    pub fn open(folder: &Path) -> Result<Identity, Problem> {
        let unusable = |error: io::Error| {
            Problem::unavailable(format!("the identity in {} cannot be used: {error}", folder.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let path = folder.join(KEY);
        let bytes = match read(&path)? {
            Some(bytes) => bytes,
            None => {
                let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                    .map_err(|error| Problem::internal(format!("a key cannot be made: {error}")))?;
                write(folder, KEY, made.serialized_der())?;
                made.serialize_der()
            }
        };
        let broken = |error: &dyn std::fmt::Display| {
            Problem::invalid(format!("{} is not a member's key: {error}", path.display()))
                .hint("restore it, or remove the folder and join anew")
        };
        let pkcs8 = PrivatePkcs8KeyDer::from(bytes);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| broken(&error))?;
        let signing = any_ecdsa_type(&PrivateKeyDer::Pkcs8(pkcs8)).map_err(|error| broken(&error))?;
        let identity = Identity { folder: folder.to_owned(), key, signing, current: ArcSwapOption::empty() };
        if let Some(pem) = read(&folder.join(CHAIN))? {
            let chain = String::from_utf8(pem).map_err(|_| ()).ok();
            let chain = chain.ok_or_else(|| Problem::invalid("it is not text"));
            let shown = folder.join(CHAIN);
            let chain = chain.and_then(|pem| Chain::from_pem(&pem)).and_then(|chain| identity.own(chain));
            let chain = chain.map_err(|problem| {
                Problem::invalid(format!("{} cannot be used: {}", shown.display(), problem.detail))
                    .hint("restore it, or remove it and join anew")
            })?;
            identity.current.store(Some(Arc::new(chain)));
        }
        Ok(identity)
    }

    /// The digest of its key.
    #[must_use]
    pub fn key(&self) -> Digest {
        public_digest(&self.key)
    }

    /// A request for a certificate (PKCS #10, DER), which proves that the key is ours.
    ///
    /// # Errors
    /// `internal` if the library refuses.
    pub fn request(&self) -> Result<Vec<u8>, Problem> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&self.key)
            .map_err(|error| Problem::internal(format!("no certificate can be asked for: {error}")))?;
        Ok(request.der().to_vec())
    }

    /// Takes a chain from now on: it is on disk first, then shown at the next handshake.
    ///
    /// # Errors
    /// `invalid` if it is for another key or names no member; `unavailable` if the disk refuses. Then the old one stays.
    pub fn take(&self, chain: Chain) -> Result<(), Problem> {
        let current = self.own(chain)?;
        write(&self.folder, CHAIN, current.chain.to_pem().as_bytes())?;
        self.current.store(Some(Arc::new(current)));
        Ok(())
    }

    /// Shows a certificate that vouches for itself, until there is a better one: enough for those who know the key, and
    /// for nobody else. It is not kept.
    ///
    /// # Errors
    /// `internal` if the library cannot make it.
    pub fn vouch_for_itself(&self, id: &MemberId) -> Result<(), Problem> {
        let failed = |error: &dyn std::fmt::Display| {
            Problem::internal(format!("a certificate cannot be made: {error}"))
        };
        let mut params = CertificateParams::new(vec![id.dns_name()]).map_err(|error| failed(&error))?;
        params.distinguished_name = DistinguishedName::new();
        let uri = id.uri().try_into().map_err(|error| failed(&error))?;
        params.subject_alt_names.push(SanType::URI(uri));
        let made = params.self_signed(&self.key).map_err(|error| failed(&error))?;
        let chain = Chain::new(vec![made.der().clone()])?;
        self.current.store(Some(Arc::new(self.own(chain)?)));
        Ok(())
    }

    fn own(&self, chain: Chain) -> Result<Current, Problem> {
        if *chain.key() != self.key() {
            return Err(Problem::invalid("the certificate is for another key than this member's"));
        }
        if chain.id().is_none() {
            return Err(Problem::invalid("the certificate names no member"));
        }
        let certified = Arc::new(CertifiedKey::new(chain.certificates().to_vec(), Arc::clone(&self.signing)));
        Ok(Current { chain, certified })
    }

    /// The chain it shows; `None` before the machine has joined.
    #[must_use]
    pub fn chain(&self) -> Option<Chain> {
        self.current.load().as_ref().map(|current| current.chain.clone())
    }

    /// Who it is; `None` before the machine has joined.
    #[must_use]
    pub fn id(&self) -> Option<MemberId> {
        self.chain()?.id().cloned()
    }

    /// When to ask for the next certificate: half-way through the life of this one.
    #[must_use]
    pub fn renew_at(&self) -> Option<Timestamp> {
        let current = self.current.load_full()?;
        let (from, to) = (current.chain.not_before(), current.chain.not_after());
        Some(Timestamp(from.0 + to.since(from).0 / 2))
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|current| Arc::clone(&current.certified))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.current.load().is_some()
    }
}

/// A file that is nobody else's to read; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let unreadable =
        |error: io::Error| Problem::unavailable(format!("{} cannot be read: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let meta = file.metadata().map_err(unreadable)?;
    let us = rustix::process::geteuid().as_raw();
    if meta.mode() & 0o077 != 0 || (meta.uid() != us && meta.uid() != 0) {
        let text = format!("{} may be read or was made by others", path.display());
        return Err(Problem::new(ErrorCode::Forbidden, text)
            .hint(format!("if nobody had it: chown and chmod 600 {}; else join anew", path.display())));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES + 1), &mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > FILE_BYTES {
        true => Err(Problem::invalid(format!("{} has more than {FILE_BYTES} bytes", path.display()))),
        false => Ok(Some(bytes)),
    }
}

/// Writes a file whole: after a crash the old one is there or the new one.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Problem> {
    let (path, next) = (folder.join(name), folder.join(format!("{name}.new")));
    let written = || {
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, &path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| Problem::unavailable(format!("{} cannot be written: {error}", path.display())))
}
