//! Chains of certificates as they are sent and kept: a member's own first, the root last.

use crate::MemberId;
use rustls::{
    pki_types::{CertificateDer, pem::PemObject as _},
    server::ParsedCertificate,
};
use tutti_base::sha256;
use tutti_model::{Digest, Problem, Timestamp};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

/// Most certificates of a chain: a member's, its zone's authority, the root, and one to spare.
const CERTIFICATES: usize = 4;
/// Longest PEM of a chain, in bytes; ours are about 2 KiB.
const PEM_BYTES: usize = 64 * 1024;

/// The digest of the key in a certificate (of its SubjectPublicKeyInfo): by it a member is known.
///
/// # Errors
/// `invalid` for what is no certificate.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Result<Digest, Problem> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| Problem::invalid(format!("the certificate cannot be read: {error}")))?;
    Ok(sha256::digest(&parsed.subject_public_key_info()))
}

/// The digest of a whole certificate: by it a root is pinned.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    sha256::digest(certificate)
}

/// A chain of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    /// The digest of the first one's key.
    key: Digest,
    id: Option<MemberId>,
    /// From when and until when the first one is good.
    dates: (Timestamp, Timestamp),
}

impl Chain {
    /// A chain, its owner's certificate first. Nothing is verified but that it can be read.
    ///
    /// # Errors
    /// `invalid` if it is empty, longer than 4, or not of certificates.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Chain, Problem> {
        if certificates.len() > CERTIFICATES {
            return Err(Problem::invalid(format!("a chain has at most {CERTIFICATES} certificates")));
        }
        let first =
            certificates.first().ok_or_else(|| Problem::invalid("there is no certificate in the chain"))?;
        let key = key_digest(first)?;
        let (_, read) = X509Certificate::from_der(first)
            .map_err(|error| Problem::invalid(format!("the certificate cannot be read: {error}")))?;
        let id = names(&read).find_map(MemberId::from_uri);
        let moment = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let dates = read.validity();
        let dates = (moment(dates.not_before.timestamp()), moment(dates.not_after.timestamp()));
        Ok(Chain { certificates, key, id, dates })
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// As [`Chain::new`].
    pub fn from_pem(pem: &str) -> Result<Chain, Problem> {
        if pem.len() > PEM_BYTES {
            return Err(Problem::invalid(format!("a chain in PEM has at most {PEM_BYTES} bytes")));
        }
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(CERTIFICATES + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Problem::invalid(format!("the certificates cannot be read: {error}")))?;
        Chain::new(certificates)
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(to_pem).collect()
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The last certificate, which is the root in every chain of ours.
    #[must_use]
    pub fn root(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.last()
    }

    /// The digest of its owner's key.
    #[must_use]
    pub const fn key(&self) -> &Digest {
        &self.key
    }

    /// Whom it names; `None` if that is no member.
    #[must_use]
    pub const fn id(&self) -> Option<&MemberId> {
        self.id.as_ref()
    }

    /// When the owner's certificate becomes good.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.dates.0
    }

    /// Until when it is.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.dates.1
    }
}

/// The member that a certificate names, for what was accepted on other grounds; `None` if it names none.
pub(crate) fn named(certificate: &CertificateDer<'_>) -> Option<MemberId> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    names(&read).find_map(MemberId::from_uri)
}

fn names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}

/// One certificate as PEM.
pub(crate) fn to_pem(certificate: &CertificateDer<'static>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
