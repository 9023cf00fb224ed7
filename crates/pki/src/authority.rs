//! The authority of a cluster: one root, and one intermediate for each zone, which alone signs members' certificates.

use crate::{Chain, MemberId, chain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use std::{net::IpAddr, sync::Arc};
use time::OffsetDateTime;
use tutti_base::{Clock, Random, Secret};
use tutti_model::{Digest, Millis, Problem, Timestamp, name::ZoneName, node::HostPort};

const HOUR: Millis = Millis::seconds(3600);
const DAY: Millis = Millis::seconds(24 * 3600);
/// How long a root is good: longer than a cluster's machines live.
const ROOT_LIFE: Millis = Millis(3650 * DAY.0);
/// How long a zone's authority is.
const INTERMEDIATE_LIFE: Millis = Millis(365 * DAY.0);
/// How long a member's certificate is. A removed member is refused by the table of members, so this bounds only what
/// stock TLS clients believe.
pub const LEAF_LIFE: Millis = DAY;
/// Certificates are good from so long before they are made: clocks of machines differ.
const BACKDATED: Millis = HOUR;
/// Bytes of a serial number; RFC 5280 (4.1.2.2) takes 20 at most.
const SERIAL_BYTES: usize = 16;
/// Longest request for a certificate, in bytes; ours have about 200.
const REQUEST_BYTES: usize = 4096;
/// Most addresses in one certificate.
const ADDRESSES: usize = 32;
/// An uncompressed point of P-256 (SEC 1, 2.3.3).
const POINT: (usize, u8) = (65, 4);

/// An authority as it is kept: the certificate is public, the key is to be sealed by whoever stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAuthority {
    /// The certificate, in DER.
    pub certificate: Vec<u8>,
    /// The key, as PKCS #8.
    pub key: Secret<Vec<u8>>,
}

/// What both kinds of authority are.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Authority {
    fn load(kept: &SealedAuthority, clock: Arc<dyn Clock>, random: Random) -> Result<Authority, Problem> {
        let wrong = |error: &dyn std::fmt::Display| {
            Problem::invalid(format!("the authority cannot be read: {error}"))
        };
        let certificate = CertificateDer::from(kept.certificate.clone());
        let key = PrivatePkcs8KeyDer::from(kept.key.reveal().as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| wrong(&error))?;
        if chain::key_digest(&certificate)? != public_digest(&key) {
            return Err(wrong(&"its key is not its certificate's"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| wrong(&error))?;
        Ok(Authority { certificate, issuer, clock, random })
    }

    fn kept(&self) -> SealedAuthority {
        SealedAuthority {
            certificate: self.certificate.to_vec(),
            key: Secret::new(self.issuer.key().serialize_der()),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// The digest of a key pair's public half.
pub(crate) fn public_digest(key: &KeyPair) -> Digest {
    use rcgen::PublicKeyData as _;
    tutti_base::sha256::digest(&key.subject_public_key_info())
}

/// The root of a cluster: it signs zones' authorities and nothing else, and is needed once a year.
#[derive(Debug)]
pub struct Root(Authority);

impl Root {
    /// A new one.
    ///
    /// # Errors
    /// `invalid` if the id of the cluster is none; `internal` if the library cannot make it.
    pub fn make(cluster: &str, clock: Arc<dyn Clock>, random: Random) -> Result<Root, Problem> {
        let key = new_key()?;
        let mut params = dated(clock.now(), ROOT_LIFE, &random)?;
        params.distinguished_name = named(&format!("Tutti root of cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
        let issuer = Issuer::new(params, key);
        Ok(Root(Authority { certificate, issuer, clock, random }))
    }

    /// One that was kept.
    ///
    /// # Errors
    /// `invalid` if it cannot be read, or its key is not its certificate's.
    pub fn load(kept: &SealedAuthority, clock: Arc<dyn Clock>, random: Random) -> Result<Root, Problem> {
        Authority::load(kept, clock, random).map(Root)
    }

    /// What to keep of it.
    #[must_use]
    pub fn kept(&self) -> SealedAuthority {
        self.0.kept()
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// What it is pinned by.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        chain::fingerprint(&self.0.certificate)
    }

    /// A new authority for a zone, good for a year. It can sign members, and no further authority.
    ///
    /// # Errors
    /// `internal` if the library cannot make it.
    pub fn intermediate(&self, zone: &ZoneName) -> Result<Intermediate, Problem> {
        let key = new_key()?;
        let mut params = dated(self.0.clock.now(), INTERMEDIATE_LIFE, &self.0.random)?;
        params.distinguished_name = named(&format!("Tutti zone {zone}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0.issuer).map_err(failed)?.der().clone();
        let issuer = Issuer::new(params, key);
        let authority = Authority {
            certificate,
            issuer,
            clock: Arc::clone(&self.0.clock),
            random: self.0.random.clone(),
        };
        Intermediate::over(authority, self.0.certificate.clone())
    }
}

/// The authority of a zone.
#[derive(Debug)]
pub struct Intermediate {
    authority: Authority,
    root: CertificateDer<'static>,
    not_after: Timestamp,
}

impl Intermediate {
    fn over(authority: Authority, root: CertificateDer<'static>) -> Result<Intermediate, Problem> {
        let not_after = Chain::new(vec![authority.certificate.clone()])?.not_after();
        Ok(Intermediate { authority, root, not_after })
    }

    /// One that was kept, with the certificate of the root above it.
    ///
    /// # Errors
    /// `invalid` if it cannot be read, or its key is not its certificate's.
    pub fn load(
        kept: &SealedAuthority,
        root: CertificateDer<'static>,
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Result<Intermediate, Problem> {
        Intermediate::over(Authority::load(kept, clock, random)?, root)
    }

    /// What to keep of it.
    #[must_use]
    pub fn kept(&self) -> SealedAuthority {
        self.authority.kept()
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.authority.certificate
    }

    /// Until when it is good. Renew it, with the root, a good while before.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Vouches for a member: a certificate for the key that `request` (PKCS #10, DER) proves to have, good for
    /// [`LEAF_LIFE`] and never longer than the authority itself, with its chain up to the root. Of the request only the
    /// key counts; who it is and where it listens says the caller.
    ///
    /// # Errors
    /// `invalid` if the request is none, is not signed by the key in it, or has another kind of key than ECDSA P-256, or
    /// there are more than 32 addresses; `unavailable` if the authority itself is no longer good.
    pub fn vouch(&self, request: &[u8], member: &MemberId, addresses: &[HostPort]) -> Result<Chain, Problem> {
        let wrong = |why: &str| Problem::invalid(format!("the request for a certificate {why}"));
        if request.len() > REQUEST_BYTES {
            return Err(wrong(&format!("is longer than {REQUEST_BYTES} bytes")));
        }
        if addresses.len() > ADDRESSES {
            return Err(Problem::invalid(format!("a member has at most {ADDRESSES} addresses")));
        }
        let request = CertificateSigningRequestDer::from(request);
        let asked = CertificateSigningRequestParams::from_der(&request).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => wrong("is not signed by the key in it"),
            error => wrong(&format!("cannot be read: {error}")),
        })?;
        use rcgen::PublicKeyData as _;
        let point = asked.public_key.der_bytes();
        let is_point = point.len() == POINT.0 && point.first() == Some(&POINT.1);
        if asked.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 || !is_point {
            return Err(wrong("is for another kind of key than ECDSA P-256"));
        }
        let now = self.authority.clock.now();
        if now >= self.not_after {
            return Err(Problem::unavailable("the zone's authority is no longer good")
                .hint("control renews it once it has the cluster key"));
        }
        let life = LEAF_LIFE.min(self.not_after.since(now));
        let mut params = dated(now, life, &self.authority.random)?;
        params.distinguished_name = named(member.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = alternatives(member, addresses)?;
        let leaf = params.signed_by(&asked.public_key, &self.authority.issuer).map_err(failed)?.der().clone();
        Chain::new(vec![leaf, self.authority.certificate.clone(), self.root.clone()])
    }
}

fn alternatives(member: &MemberId, addresses: &[HostPort]) -> Result<Vec<SanType>, Problem> {
    let text = |text: String| text.try_into().map_err(failed);
    let mut names = vec![
        SanType::DnsName(text(member.dns_name())?),
        SanType::DnsName(text("localhost".to_owned())?),
        SanType::URI(text(member.uri())?),
    ];
    for address in addresses {
        let host = address.host();
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(text(host)?),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn new_key() -> Result<KeyPair, Problem> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// What every certificate has: from when until when, and a serial number that no other has.
fn dated(now: Timestamp, life: Millis, random: &Random) -> Result<CertificateParams, Problem> {
    let mut params = CertificateParams::default();
    params.not_before = moment(Timestamp(now.0.saturating_sub(BACKDATED.0)))?;
    params.not_after = moment(now.plus(life))?;
    let mut serial = [0; SERIAL_BYTES];
    random.fill(&mut serial);
    // Positive, and of one length.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    Ok(params)
}

fn moment(when: Timestamp) -> Result<OffsetDateTime, Problem> {
    let seconds = i64::try_from(when.0 / 1000).map_err(|_| failed("the clock is out of range"))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::internal(format!("a certificate cannot be made: {error}"))
}
