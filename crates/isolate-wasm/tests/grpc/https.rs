//! Requests that a guest makes over TLS, to servers that show good and bad certificates.

use crate::fixture::{Host, Service, manifest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tutti_model::manifest::Manifest;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn root() -> Issuer {
    root_named("the root that is trusted")
}

fn root_named(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a server shows.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn signed(by: &Issuer, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Shown { chain: vec![certificate.into()], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
}

fn self_signed(names: &[&str]) -> Shown {
    let params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Shown { chain: vec![certificate.into()], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
}

fn config(shown: Shown) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain, shown.key)
        .unwrap()
}

/// A server on this address that answers each request with the protocol and the name that the client asked for.
async fn serve(address: &str, mut config: ServerConfig) -> u16 {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 1024];
            let _ = stream.read(&mut request).await;
            let (_, connection) = stream.get_ref();
            let protocol = connection.alpn_protocol().map(String::from_utf8_lossy).unwrap_or_default();
            let text = format!("{protocol} {}", connection.server_name().unwrap_or("no name"));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// An instance that believes this root, and may reach these addresses. Whatever it needs goes with the host.
async fn start(root: &Issuer, outgoing: &[String]) -> (Host, Service) {
    let mut host = Host::new();
    let file = host.folder.path().join("roots.pem");
    std::fs::write(&file, root.pem()).unwrap();
    host = host.again(|options| options.roots = Some(file));
    let outgoing = outgoing.iter().map(|one| one.parse().unwrap()).collect();
    let service = host.start(Manifest { outgoing, ..manifest() }).await;
    (host, service)
}

async fn fetch(service: &Service, address: &str) -> crate::fixture::Answer {
    service.call("Fetch", &format!(r#"{{"url": "https://{address}/"}}"#)).await
}

/// The error that the guest gets from such a server, once its log says why.
async fn refused(root: &Issuer, config: ServerConfig, log: &str) -> String {
    let port = serve("127.0.0.1", config).await;
    let address = format!("127.0.0.1:{port}");
    let (_host, service) = start(root, std::slice::from_ref(&address)).await;
    let text = fetch(&service, &address).await.text();
    service.log_says(&format!("a request to https://{address} failed: ")).await;
    service.log_says(log).await;
    text
}

#[tokio::test]
async fn a_guest_sends_a_request_over_tls_to_whom_a_root_vouches_for() {
    let root = root();
    let port = serve("127.0.0.1", config(signed(&root, &["127.0.0.1"], |_| {}))).await;
    let address = format!("127.0.0.1:{port}");
    let (_host, service) = start(&root, std::slice::from_ref(&address)).await;
    // An address is no name to ask for.
    assert_eq!(fetch(&service, &address).await.json("Fetch")["name"], "200 http/1.1 no name");
    assert_eq!(fetch(&service, &address).await.json("Fetch")["name"], "200 http/1.1 no name");
    // What is not listed is denied as it is without TLS.
    let text = fetch(&service, "127.0.0.1:1").await.text();
    assert!(text.contains("HttpRequestDenied"), "{text}");
    service.log_says("add \"127.0.0.1:1\" to outgoing").await;
}

#[tokio::test]
async fn an_address_of_version_6_is_checked_too() {
    let root = root();
    let good = serve("::1", config(signed(&root, &["::1"], |_| {}))).await;
    let bad = serve("::1", config(signed(&root, &["::2"], |_| {}))).await;
    let (_host, service) = start(&root, &[format!("[::1]:{good}"), format!("[::1]:{bad}")]).await;
    let answer = fetch(&service, &format!("[::1]:{good}")).await;
    assert_eq!(answer.json("Fetch")["name"], "200 http/1.1 no name");
    let text = fetch(&service, &format!("[::1]:{bad}")).await.text();
    assert!(text.contains("TlsCertificateError"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let root = root();
    let shown = signed(&root, &["api.example.org", "127.0.0.2"], |_| {});
    let text = refused(&root, config(shown), "its certificate is for other names").await;
    assert!(text.contains("TlsCertificateError"), "{text}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let root = root();
    let expired = signed(&root, &["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let text = refused(&root, config(expired), "its certificate has expired").await;
    assert!(text.contains("TlsCertificateError"), "{text}");
    let early = signed(&root, &["127.0.0.1"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let text = refused(&root, config(early), "its certificate is not valid yet").await;
    assert!(text.contains("TlsCertificateError"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_no_root_vouches_for_is_refused() {
    let trusted = root();
    let by_itself = self_signed(&["127.0.0.1"]);
    let text = refused(&trusted, config(by_itself), "signed by none of this node's root certificates").await;
    assert!(text.contains("TlsCertificateError"), "{text}");
    let by_other = signed(&root_named("another"), &["127.0.0.1"], |_| {});
    let text = refused(&trusted, config(by_other), "start the node with SSL_CERT_FILE").await;
    assert!(text.contains("TlsCertificateError"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with_a_bad_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 5];
            let _ = stream.read_exact(&mut hello).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            // Until the client has gone, so that it reads the answer rather than a reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let (_host, service) = start(&root(), std::slice::from_ref(&address)).await;
    let text = fetch(&service, &address).await.text();
    assert!(text.contains("TlsProtocolError"), "{text}");
    service.log_says("it does not speak TLS there").await;
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_guest_says_so() {
    let root = root();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let shown = signed(&root, &["127.0.0.1"], |_| {});
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(shown.chain, shown.key)
        .unwrap();
    let address = format!("127.0.0.1:{}", serve("127.0.0.1", config).await);
    let (_host, service) = start(&root, std::slice::from_ref(&address)).await;
    let text = fetch(&service, &address).await.text();
    assert!(text.contains("TlsAlertReceived") && text.contains("CertificateRequired"), "{text}");
}

#[tokio::test]
async fn a_node_without_roots_says_what_to_install() {
    let root = root();
    let address =
        format!("127.0.0.1:{}", serve("127.0.0.1", config(signed(&root, &["127.0.0.1"], |_| {}))).await);
    let (host, service) = start(&root, std::slice::from_ref(&address)).await;
    let roots = host.folder.path().join("roots.pem");
    std::fs::remove_file(&roots).unwrap();
    let text = fetch(&service, &address).await.text();
    assert!(text.contains("ConfigurationError"), "{text}");
    service.log_says("this node has no root certificates").await;
    // Nothing is to be started again once they are there.
    std::fs::write(&roots, root.pem()).unwrap();
    assert_eq!(fetch(&service, &address).await.json("Fetch")["name"], "200 http/1.1 no name");
}
