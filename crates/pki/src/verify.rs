//! Who is admitted in a handshake.

use crate::{MemberTable, chain};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{fmt, sync::Arc};
use tutti_model::{
    Digest,
    member::{MachineRole, Membership},
    name::NodeName,
};

/// Who is to be at the other end of a connection that we open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This member.
    Member(NodeName),
    /// Any member that runs this.
    Role(MachineRole),
}

impl Expected {
    fn is(&self, member: &Membership) -> bool {
        match self {
            Expected::Member(name) => member.name == *name,
            Expected::Role(role) => member.is(*role),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Member(name) => write!(f, "member {name}"),
            Expected::Role(role) => write!(f, "a member with the role {role}"),
        }
    }
}

/// Says why in the words that end up in logs and at people.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(why: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(why)))))
}

fn key(certificate: &CertificateDer<'_>) -> Result<Digest, Error> {
    chain::key_digest(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// The check of whom we connect to: its key is that of the member we mean. Who is not known yet may come with a chain
/// up to the pinned root that is not expired and has the name it was asked for with.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) table: Option<(Arc<MemberTable>, Expected)>,
    /// The fingerprint of the root that vouches for those who are not known yet; without, nobody does.
    pub(crate) pin: Option<Digest>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl Servers {
    /// Whether the chain leads to the pinned root. Who shows a certificate need not have it signed by what follows, so
    /// the root is found by its fingerprint, and then everything is verified from there.
    fn issued(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let unknown = || match &self.table {
            Some((_, expected)) => refused(format!("the key there is not that of {expected}")),
            None => refused("another authority than the expected one vouches for who is there".to_owned()),
        };
        let pin = self.pin.as_ref().ok_or_else(unknown)?;
        let root = others.iter().find(|other| chain::fingerprint(other) == *pin).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, others, now, self.algorithms.all)?;
        verify_server_name(&parsed, name)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = key(end_entity)?;
        if let Some((table, expected)) = &self.table
            && let Some(member) = table.get(&key)
        {
            // Whoever is known is nobody else, whatever its certificate says.
            return if expected.is(&member) {
                Ok(ServerCertVerified::assertion())
            } else {
                Err(refused(format!("member {} is there, not {expected}", member.name)))
            };
        }
        self.issued(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The check of who connects to us.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) table: Arc<MemberTable>,
    /// Members with one of these roles; any member if it is empty.
    pub(crate) roles: Vec<MachineRole>,
    /// Verifies the chain of those who are not in the table; without, they are refused.
    pub(crate) issued: Option<Arc<dyn ClientCertVerifier>>,
    /// Whether who has no certificate is refused.
    pub(crate) mandatory: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a client sends what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = key(end_entity)?;
        if let Some(member) = self.table.get(&key) {
            return if self.roles.is_empty() || self.roles.iter().any(|role| member.is(*role)) {
                Ok(ClientCertVerified::assertion())
            } else {
                Err(refused(format!("member {} has no role that is admitted here", member.name)))
            };
        }
        match &self.issued {
            Some(issued) => issued.verify_client_cert(end_entity, intermediates, now),
            None => Err(refused("the key is no member's".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
