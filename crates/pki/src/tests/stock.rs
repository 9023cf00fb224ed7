//! What stock tools make of our certificates and listeners: openssl and curl, which scripts/test.sh installs.

use super::*;
use std::process::Stdio;
use tokio::{net::TcpListener, process::Command};
use tutti_base::SystemClock;

async fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time");
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn openssl_and_curl_take_our_chains_and_listeners() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let root = Root::make("c1", Arc::clone(&clock), Random::seeded(1)).unwrap();
    let zone = root.intermediate(&"dev/local".parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let identity = Arc::new(Identity::open(&folder.path().join("identity")).unwrap());
    let member = MemberId::new("c1", "dev/local".parse().unwrap(), "c1".parse().unwrap()).unwrap();
    let addresses = ["127.0.0.1:1".parse().unwrap()];
    let chain = zone.vouch(&identity.request().unwrap(), &member, &addresses).unwrap();
    identity.take(chain.clone()).unwrap();
    let file = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [leaf, between, above] =
        [0, 1, 2].map(|at| Chain::new(vec![chain.certificates()[at].clone()]).unwrap().to_pem());
    let (leaf, between, above) = (file("leaf", leaf), file("between", between), file("root", above));
    for purpose in ["sslserver", "sslclient"] {
        let (well, said) = run(
            "openssl",
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                &above,
                "-untrusted",
                &between,
                &leaf,
            ],
        )
        .await;
        assert!(well, "{said}");
    }
    // The zone's authority may sign no further one, and the root signs no member.
    let (_, said) = run("openssl", &["x509", "-noout", "-text", "-in", &between]).await;
    assert!(said.contains("CA:TRUE, pathlen:0"), "{said}");
    let (_, said) = run("openssl", &["x509", "-noout", "-text", "-in", &leaf]).await;
    let wanted = [
        "URI:tutti://c1/zones/dev/local/members/c1",
        "DNS:c1.dev.local.member.tutti.internal",
        "IP Address:127.0.0.1",
    ];
    assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");

    let listens =
        Listens { table: Arc::default(), roles: vec![], issued: Some(chain.clone()), members_only: false };
    let acceptor = Arc::new(Acceptor::new(crate::listens(Arc::clone(&identity), listens, clock).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = Arc::clone(&acceptor);
            tokio::spawn(async move {
                let Ok((mut stream, _)) = acceptor.accept(stream).await else { return };
                let mut asked = [0; 1024];
                if stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                    let _ = stream.write_all(answer).await;
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    let (well, said) =
        run("curl", &["-sS", "--http1.1", "--cacert", &above, &format!("https://{address}/")]).await;
    assert!(well && said == "hello", "{said}");
    let old = ["-sS", "--http1.1", "--tls-max", "1.2", "--cacert", &above];
    let (well, said) = run("curl", &[&old[..], &[&format!("https://{address}/")]].concat()).await;
    assert!(well && said == "hello", "{said}");
    let (well, said) = run("curl", &["-sS", &format!("https://{address}/")]).await;
    assert!(!well && said.contains("certificate"), "an unknown authority: {said}");
    let (well, said) = run(
        "openssl",
        &[
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            &above,
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
        ],
    )
    .await;
    assert!(well && said.contains("Verify return code: 0 (ok)"), "{said}");
}
