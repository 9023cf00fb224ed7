use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

/// What a client that asks for `host` gets from a server with a certificate for `names`, and which name it asked for.
async fn meet(host: &str, names: &[&str]) -> (Result<(), Fault>, Option<String>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, root.pem()).unwrap();

    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let _ = stream.read(&mut [0]).await;
        name
    });
    let tls = Tls::new(Some(roots));
    let stream = TcpStream::connect(address).await.unwrap();
    let result = tls.connect(host, stream).await.map(drop);
    (result, server.await.unwrap())
}

#[tokio::test]
async fn a_name_is_asked_for_and_checked() {
    let (result, asked) = meet("api.example.org", &["www.example.org", "api.example.org"]).await;
    result.unwrap();
    assert_eq!(asked.as_deref(), Some("api.example.org"));
    meet("api.example.org", &["*.example.org"]).await.0.unwrap();
    meet("API.Example.org", &["api.example.org"]).await.0.unwrap();
}

#[tokio::test]
async fn another_name_is_refused_and_named() {
    for (host, name) in [
        ("api.example.org", "api.example.net"),
        ("example.org", "*.example.org"),
        ("a.b.example.org", "*.example.org"),
        ("127.0.0.1", "api.example.org"),
        ("api.example.org", "127.0.0.1"),
    ] {
        let fault = meet(host, &[name]).await.0.unwrap_err();
        assert!(matches!(fault.error, Error::TlsCertificateError), "{host}: {fault:?}");
        assert!(fault.why.contains("other names") && fault.why.contains(name), "{host}: {fault:?}");
    }
}

#[tokio::test]
async fn what_can_be_no_name_is_refused_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let fault = Tls::new(None).connect("exa mple", stream).await.unwrap_err();
    assert!(matches!(fault.error, Error::HttpRequestUriInvalid), "{fault:?}");
}
