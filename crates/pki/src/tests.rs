//! Handshakes between members, those who were, and those who would be.

mod stock;

use crate::*;
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tutti_base::{Clock, Random, clock::VirtualClock};
use tutti_model::{
    ErrorCode, Millis, Timestamp,
    member::{MachineRole, Membership},
};

/// Some day in 2026.
const BEGIN: Timestamp = Timestamp(1_790_000_000_000);
/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of one zone.
struct World {
    clock: VirtualClock,
    root: Root,
    zone: Intermediate,
    table: Arc<MemberTable>,
    folder: tempfile::TempDir,
}

struct Machine {
    identity: Arc<Identity>,
    roles: Vec<MachineRole>,
}

impl World {
    fn new() -> World {
        World::seeded(1)
    }

    fn seeded(seed: u64) -> World {
        let clock = VirtualClock::at(BEGIN);
        let root = Root::make("c1", Arc::new(clock.clone()), Random::seeded(seed)).unwrap();
        let zone = root.intermediate(&"dev/local".parse().unwrap()).unwrap();
        World { clock, root, zone, table: Arc::default(), folder: tempfile::tempdir().unwrap() }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    /// A machine with a certificate, in no table yet.
    fn machine(&self, name: &str, roles: &[MachineRole]) -> Machine {
        let identity = Arc::new(Identity::open(&self.folder.path().join(name)).unwrap());
        let machine = Machine { identity, roles: roles.to_vec() };
        self.renew(&machine, name);
        machine
    }

    fn renew(&self, machine: &Machine, name: &str) {
        let member = MemberId::new("c1", "dev/local".parse().unwrap(), name.parse().unwrap()).unwrap();
        let addresses = ["127.0.0.1:7070".parse().unwrap(), "control.example.com:7070".parse().unwrap()];
        let chain = self.zone.vouch(&machine.identity.request().unwrap(), &member, &addresses).unwrap();
        machine.identity.take(chain).unwrap();
    }

    fn know(&self, machines: &[&Machine]) {
        let members = machines.iter().map(|machine| {
            let name = machine.identity.id().unwrap().name;
            (
                Membership { name, roles: machine.roles.iter().copied().collect() },
                vec![machine.identity.key()],
            )
        });
        self.table.replace(members);
    }

    /// An agent's listener, for members with the role ingress.
    fn for_ingresses(&self, of: &Machine) -> Arc<ServerConfig> {
        let listens = Listens {
            table: Arc::clone(&self.table),
            roles: vec![MachineRole::Ingress],
            issued: None,
            members_only: true,
        };
        crate::listens(Arc::clone(&of.identity), listens, self.clock()).unwrap()
    }

    /// Control's, for anyone, members that it does not know yet included.
    fn for_anyone(&self, of: &Machine) -> Arc<ServerConfig> {
        let listens = Listens {
            table: Arc::clone(&self.table),
            roles: vec![],
            issued: of.identity.chain(),
            members_only: false,
        };
        crate::listens(Arc::clone(&of.identity), listens, self.clock()).unwrap()
    }

    fn to(&self, from: &Machine, expected: Expected, pin: bool) -> Arc<ClientConfig> {
        let pin = pin.then(|| self.root.fingerprint());
        connects(Some(Arc::clone(&from.identity)), Arc::clone(&self.table), expected, pin, self.clock())
            .unwrap()
    }
}

fn member(name: &str) -> Expected {
    Expected::Member(name.parse().unwrap())
}

type Both = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>, Option<PeerIdentity>);

/// Both ends of a connection over which a byte has gone each way; or what each end said.
async fn meet_as(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Both, (String, String)> {
    let (near, far) = duplex(64 * 1024);
    let acceptor = Acceptor::new(server);
    let connecting = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"?").await?;
        stream.flush().await?;
        // Only now is it known that the other end took us.
        stream.read_u8().await?;
        Ok::<_, std::io::Error>(stream)
    };
    let accepting = async {
        let (mut stream, peer) = acceptor.accept(far).await?;
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>((stream, peer))
    };
    let (connected, accepted) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(connecting, accepting) }).await.expect("in time");
    match (connected, accepted) {
        (Ok(near), Ok((far, peer))) => Ok((near, far, peer)),
        (near, far) => {
            let said =
                |error: Option<std::io::Error>| error.map(|error| error.to_string()).unwrap_or_default();
            Err((said(near.err()), said(far.err())))
        }
    }
}

async fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Both, (String, String)> {
    meet_as(client, server, "127.0.0.1").await
}

#[tokio::test]
async fn members_know_each_other_by_their_keys_until_the_next_table() {
    let world = World::new();
    let agent = world.machine("n1", &[MachineRole::Agent]);
    let ingress = world.machine("i1", &[MachineRole::Ingress]);
    world.know(&[&agent, &ingress]);
    let server = world.for_ingresses(&agent);
    let to = || world.to(&ingress, member("n1"), false);
    let (.., peer) = meet(to(), Arc::clone(&server)).await.unwrap();
    let peer = peer.unwrap();
    assert_eq!((&peer.key, peer.named), (&ingress.identity.key(), ingress.identity.id()));

    // Long after every certificate ran out.
    world.clock.advance(Millis(LEAF_LIFE.0 * 1000));
    meet(to(), Arc::clone(&server)).await.unwrap();

    world.know(&[&agent]);
    let (_, why) = meet(to(), Arc::clone(&server)).await.err().unwrap();
    assert!(why.contains("the key is no member's"), "{why}");
    world.know(&[&ingress]);
    let (why, _) = meet(to(), Arc::clone(&server)).await.err().unwrap();
    assert!(why.contains("the key there is not that of member n1"), "{why}");
    world.know(&[&agent, &ingress]);
    meet(to(), server).await.unwrap();
}

#[tokio::test]
async fn who_is_known_is_nobody_else_and_has_no_other_role() {
    let world = World::new();
    let (one, two) = (world.machine("n1", &[MachineRole::Agent]), world.machine("n2", &[MachineRole::Agent]));
    let ingress = world.machine("i1", &[MachineRole::Ingress]);
    world.know(&[&one, &two, &ingress]);
    // Its certificate is good and its root the pinned one, but it is another.
    let (why, _) =
        meet(world.to(&ingress, member("n1"), true), world.for_ingresses(&two)).await.err().unwrap();
    assert!(why.contains("member n2 is there, not member n1"), "{why}");
    let (_, why) = meet(world.to(&two, member("n1"), false), world.for_ingresses(&one)).await.err().unwrap();
    assert!(why.contains("member n2 has no role that is admitted here"), "{why}");
    let server = Expected::Role(MachineRole::Server);
    let (why, _) = meet(world.to(&ingress, server, true), world.for_ingresses(&one)).await.err().unwrap();
    assert!(why.contains("not a member with the role server"), "{why}");
    let agent = Expected::Role(MachineRole::Agent);
    meet(world.to(&ingress, agent, false), world.for_ingresses(&one)).await.unwrap();
}

#[tokio::test]
async fn who_is_not_known_yet_is_admitted_by_a_chain_that_is_good_and_only_where_that_counts() {
    let world = World::new();
    let control = world.machine("c1", &[MachineRole::Server]);
    let new = world.machine("n9", &[MachineRole::Agent]);
    world.know(&[]);
    let server = Expected::Role(MachineRole::Server);
    let to = |pin| world.to(&new, server.clone(), pin);
    for name in ["127.0.0.1", "control.example.com", "localhost", "c1.dev.local.member.tutti.internal"] {
        let (.., peer) = meet_as(to(true), world.for_anyone(&control), name).await.unwrap();
        assert_eq!(peer.unwrap().named.unwrap().name.as_str(), "n9", "{name}");
    }
    let (why, _) = meet_as(to(true), world.for_anyone(&control), "other.example.com").await.err().unwrap();
    assert!(why.contains("not valid for name"), "{why}");
    let (why, _) = meet(to(false), world.for_anyone(&control)).await.err().unwrap();
    assert!(why.contains("the key there is not that of a member with the role server"), "{why}");

    // Where only known members come, a good chain is not enough.
    let ingress = world.machine("i9", &[MachineRole::Ingress]);
    world.know(&[&new]);
    let (_, why) =
        meet(world.to(&ingress, member("n9"), true), world.for_ingresses(&new)).await.err().unwrap();
    assert!(why.contains("the key is no member's"), "{why}");

    // Another cluster's chain is good for nothing, as a client's and as a server's.
    let foreign = World::seeded(2);
    let spy = foreign.machine("n9", &[MachineRole::Agent, MachineRole::Server]);
    let (_, why) = meet(
        connects(
            Some(Arc::clone(&spy.identity)),
            Arc::clone(&world.table),
            server.clone(),
            Some(world.root.fingerprint()),
            world.clock(),
        )
        .unwrap(),
        world.for_anyone(&control),
    )
    .await
    .err()
    .unwrap();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
    let (why, _) = meet(to(true), foreign.for_anyone(&spy)).await.err().unwrap();
    assert!(why.contains("the key there is not that of"), "{why}");

    // Who was never heard of, and whose certificate has run out.
    world.know(&[&control]);
    world.clock.advance(Millis(LEAF_LIFE.0 + 1000));
    let (_, why) = meet(to(true), world.for_anyone(&control)).await.err().unwrap();
    assert!(why.contains("expired"), "{why}");
    world.know(&[]);
    let (why, _) = meet(to(true), world.for_anyone(&control)).await.err().unwrap();
    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn a_root_in_the_chain_is_no_proof_that_it_signed() {
    let (world, foreign) = (World::new(), World::seeded(2));
    let spy = foreign.machine("c1", &[MachineRole::Server]);
    let mut chain = spy.identity.chain().unwrap().certificates().to_vec();
    chain.push(world.root.certificate().clone());
    spy.identity.take(Chain::new(chain).unwrap()).unwrap();
    let pin = Pin::Fingerprint(world.root.fingerprint());
    let to = connects_publicly(Some(&pin), None, world.clock()).unwrap();
    let (why, _) = meet(to, foreign.for_anyone(&spy)).await.err().unwrap();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
}

/// Shows a chain whose key it does not have.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn who_shows_a_members_certificate_must_have_its_key() {
    let world = World::new();
    let agent = world.machine("n1", &[MachineRole::Agent]);
    let ingress = world.machine("i1", &[MachineRole::Ingress]);
    world.know(&[&agent, &ingress]);
    let thief = rcgen::KeyPair::generate().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(thief.serialize_der().into());
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&key).unwrap();
    let stolen = CertifiedKey::new(ingress.identity.chain().unwrap().certificates().to_vec(), key);
    let mut config = ClientConfig::clone(&world.to(&ingress, member("n1"), false));
    config.client_auth_cert_resolver = Arc::new(Thief(Arc::new(stolen)));
    let (_, why) = meet(Arc::new(config), world.for_ingresses(&agent)).await.err().unwrap();
    assert!(why.contains("BadSignature"), "{why}");
}

#[tokio::test]
async fn a_listener_for_members_wants_a_certificate_and_the_newest_tls_and_the_api_neither() {
    let world = World::new();
    let control = world.machine("c1", &[MachineRole::Server]);
    world.know(&[&control]);
    let pin = Pin::Fingerprint(world.root.fingerprint());
    let stock = connects_publicly(Some(&pin), None, world.clock()).unwrap();
    let (near, _, peer) = meet(Arc::clone(&stock), world.for_anyone(&control)).await.unwrap();
    assert_eq!((peer, near.get_ref().1.protocol_version()), (None, Some(rustls::ProtocolVersion::TLSv1_3)));
    let (_, why) = meet(stock, world.for_ingresses(&control)).await.err().unwrap();
    assert!(why.contains("peer sent no certificates"), "{why}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.root.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_webpki_verifier(old.build().unwrap());
    let mut old = old.with_no_client_auth();
    // The library's own clock is not the world's.
    old.time_provider = Arc::new(At(BEGIN));
    let old = Arc::new(old);
    let (near, ..) = meet(Arc::clone(&old), world.for_anyone(&control)).await.unwrap();
    assert_eq!(near.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let (_, why) = meet(old, world.for_ingresses(&control)).await.err().unwrap();
    assert!(why.contains("incompatible"), "{why}");
}

#[derive(Debug)]
struct At(Timestamp);

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_millis(self.0.0)))
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_by_the_next_handshake_and_touches_no_connection() {
    let world = World::new();
    let agent = world.machine("n1", &[MachineRole::Agent]);
    let ingress = world.machine("i1", &[MachineRole::Ingress]);
    world.know(&[&agent, &ingress]);
    let (server, to) = (world.for_ingresses(&agent), world.to(&ingress, member("n1"), false));
    let (mut near, mut far, _) = meet(Arc::clone(&to), Arc::clone(&server)).await.unwrap();
    let shown = |both: &Both| both.0.get_ref().1.peer_certificates().unwrap()[0].clone();
    let before = agent.identity.chain().unwrap();
    let due = agent.identity.renew_at().unwrap();
    assert!(due > BEGIN && due < before.not_after(), "{due:?}");
    world.clock.advance(due.since(BEGIN));
    world.renew(&agent, "n1");
    world.renew(&ingress, "i1");
    assert!(agent.identity.chain().unwrap().not_after() > before.not_after());
    assert_eq!(agent.identity.key(), *before.key(), "the key stays");
    near.write_all(b"still").await.unwrap();
    near.flush().await.unwrap();
    let mut heard = [0; 5];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still");
    let again = meet(to, server).await.unwrap();
    assert_eq!(shown(&again), agent.identity.chain().unwrap().certificates()[0]);
    assert_ne!(shown(&again), before.certificates()[0]);
}

#[tokio::test]
async fn a_key_stays_in_its_folder_and_is_refused_where_others_may_read_it() {
    let world = World::new();
    let machine = world.machine("n1", &[MachineRole::Agent]);
    let folder = world.folder.path().join("n1");
    for file in ["key.der", "chain.pem"] {
        let mode = std::fs::metadata(folder.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = Identity::open(&folder).unwrap();
    assert_eq!((again.key(), again.chain()), (machine.identity.key(), machine.identity.chain()));
    // Neither another's chain nor a stranger's is taken, and the old one stays.
    let other = world.machine("n2", &[MachineRole::Agent]).identity.chain().unwrap();
    assert_eq!(again.take(other).unwrap_err().code, ErrorCode::Invalid);
    assert_eq!(again.chain(), machine.identity.chain());

    std::fs::set_permissions(folder.join("key.der"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Identity::open(&folder).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.detail.contains("key.der may be read"), "{refused}");
    std::fs::set_permissions(folder.join("key.der"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(
        folder.join("chain.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert!(Identity::open(&folder).unwrap_err().detail.contains("chain.pem cannot be used"));
    std::fs::write(folder.join("key.der"), "junk").unwrap();
    assert!(Identity::open(&folder).unwrap_err().detail.contains("not a member's key"));
}

#[test]
fn a_certificate_is_made_only_for_who_proves_to_have_the_key() {
    let world = World::new();
    let member = || MemberId::new("c1", "dev/local".parse().unwrap(), "n1".parse().unwrap()).unwrap();
    let identity = Identity::open(&world.folder.path().join("n1")).unwrap();
    let request = identity.request().unwrap();
    let chain = world.zone.vouch(&request, &member(), &[]).unwrap();
    assert_eq!((chain.key(), chain.id()), (&identity.key(), Some(&member())));
    assert_eq!(chain.not_after(), BEGIN.plus(LEAF_LIFE));
    assert!(chain.not_before() < BEGIN, "clocks differ");
    assert_eq!(Chain::from_pem(&chain.to_pem()).unwrap(), chain);

    // Whatever is changed in it, it is never for another key.
    let mut vouched = 0;
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 1;
        if let Ok(other) = world.zone.vouch(&changed, &member(), &[]) {
            assert_eq!(other.key(), chain.key(), "byte {at}");
            vouched += 1;
        }
    }
    // What is not signed is no more than how the signature is written.
    assert!(vouched < 16, "{vouched} of {}", request.len());
    assert!(world.zone.vouch(&[0; 5000], &member(), &[]).unwrap_err().detail.contains("longer than 4096"));
    let many: Vec<_> = (1..=33).map(|port| format!("a{port}:1").parse().unwrap()).collect();
    assert!(world.zone.vouch(&request, &member(), &many).unwrap_err().detail.contains("at most 32"));
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = rcgen::CertificateParams::default().serialize_request(&other).unwrap();
    let refused = world.zone.vouch(other.der(), &member(), &[]).unwrap_err();
    assert!(refused.detail.contains("ECDSA P-256"), "{refused}");
}

#[test]
fn authorities_are_kept_and_never_outlive_what_is_above_them() {
    let world = World::new();
    let load = |kept: &SealedAuthority| Root::load(kept, world.clock(), Random::seeded(3));
    let root = load(&world.root.kept()).unwrap();
    assert_eq!(root.fingerprint(), world.root.fingerprint());
    assert!(!format!("{:?}", root.kept().key).contains("48"), "it does not print");
    let of = |kept: &SealedAuthority| {
        Intermediate::load(kept, root.certificate().clone(), world.clock(), Random::seeded(4))
    };
    let zone = of(&world.zone.kept()).unwrap();
    let identity = Identity::open(&world.folder.path().join("n1")).unwrap();
    let member = MemberId::new("c1", "dev/local".parse().unwrap(), "n1".parse().unwrap()).unwrap();
    let vouch = || zone.vouch(&identity.request().unwrap(), &member, &[]);
    vouch().unwrap();
    // Mixed up or broken.
    let mixed = SealedAuthority { key: world.root.kept().key, ..world.zone.kept() };
    assert!(of(&mixed).unwrap_err().detail.contains("not its certificate's"));
    assert!(load(&SealedAuthority { certificate: vec![1], ..world.root.kept() }).is_err());

    world.clock.advance(zone.not_after().since(BEGIN.plus(Millis::seconds(60))));
    assert_eq!(vouch().unwrap().not_after(), zone.not_after());
    world.clock.advance(Millis::seconds(60));
    assert_eq!(vouch().unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_keeps_nobody_out() {
    let world = World::new();
    let agent = world.machine("n1", &[MachineRole::Agent]);
    let ingress = world.machine("i1", &[MachineRole::Ingress]);
    world.know(&[&agent, &ingress]);
    let acceptor = Arc::new(Acceptor::within(world.for_ingresses(&agent), HANDSHAKE, 4));
    let silent = || {
        let (near, far) = duplex(1024);
        let acceptor = Arc::clone(&acceptor);
        (near, tokio::spawn(async move { acceptor.accept(far).await.map(|_| ()).unwrap_err() }))
    };
    let mut held: Vec<_> = (0..4).map(|_| silent()).collect();
    tokio::task::yield_now().await;
    // One more ends the oldest, and is served.
    let (near, far) = duplex(64 * 1024);
    let to = TlsConnector::from(world.to(&ingress, member("n1"), false));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let (connected, accepted) = tokio::join!(to.connect(name, near), acceptor.accept(far));
    connected.unwrap();
    accepted.unwrap();
    let why = held.remove(0).1.await.unwrap();
    assert!(why.to_string().contains("when many others came"), "{why}");
    for (_near, end) in held {
        let why = end.await.unwrap();
        assert!(why.to_string().contains("did not finish its handshake in time"), "{why}");
    }
}
