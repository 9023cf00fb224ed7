use super::*;
use crate::{FolderBlobs, OciManifest};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request as HttpRequest;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::path::Path;
use tower::ServiceExt as _;
use tutti_base::{SystemClock, clock::VirtualClock, sha256::digest};
use tutti_model::{Digest, Timestamp, limits};

const WEB: &str = "/v2/example.com/web";

struct Bench {
    folder: tempfile::TempDir,
    registry: Registry,
    clock: VirtualClock,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = VirtualClock::at(Timestamp(1_000_000));
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let registry = Registry::new(Arc::new(blobs), Arc::new(clock.clone()), Random::seeded(1));
    Bench { folder, registry, clock }
}

impl Bench {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response {
        let mut request = HttpRequest::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.registry.router().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    async fn start(&self) -> String {
        let response = self.send("POST", &format!("{WEB}/blobs/uploads/"), &[], "").await;
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }

    async fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let path = format!("{WEB}/blobs/uploads/?digest={digest}");
        let response = self.send("POST", &path, &[], bytes.to_vec()).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "location"), format!("{WEB}/blobs/{digest}"));
        digest
    }

    async fn put_manifest(&self, manifest: &Value) -> (Digest, Response) {
        let bytes = manifest.to_string();
        let digest = digest(bytes.as_bytes());
        let headers = [("content-type", crate::manifest::MANIFEST_TYPE)];
        let response = self.send("PUT", &format!("{WEB}/manifests/{digest}"), &headers, bytes).await;
        (digest, response)
    }

    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("incoming")).unwrap().count()
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// The status and the first error of a refused request.
async fn refused(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    let error = &body["errors"][0];
    (status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

/// A body that breaks off after `piece`.
fn cut_off(piece: &'static str) -> Body {
    let pieces = [Ok(Bytes::from_static(piece.as_bytes())), Err(std::io::Error::other("gone"))];
    Body::from_stream(futures_util::stream::iter(pieces))
}

fn manifest(config: &Digest, layer: &Digest, layer_size: usize) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": crate::manifest::MANIFEST_TYPE,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": layer, "size": layer_size }],
    })
}

#[tokio::test]
async fn says_that_it_is_a_registry() {
    let bench = bench().await;
    for path in ["/v2", "/v2/"] {
        let response = bench.send("GET", path, &[], "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
    assert_eq!(bench.send("DELETE", "/v2/", &[], "").await.status(), 405);
}

#[tokio::test]
async fn a_version_is_pushed_and_pulled() {
    let bench = bench().await;
    let config = bench.push_blob(b"{}").await;
    let layer = bench.push_blob(b"\0asm").await;
    let (digest, response) = bench.put_manifest(&manifest(&config, &layer, 4)).await;
    assert_eq!(response.status(), 201);
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());

    for method in ["HEAD", "GET"] {
        let response = bench.send(method, &format!("{WEB}/manifests/{digest}"), &[], "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), crate::manifest::MANIFEST_TYPE);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        let length = header(&response, "content-length");
        let body = bytes(response).await;
        match method {
            "GET" => assert_eq!(OciManifest::parse(&body).unwrap().layers[0].digest, layer),
            _ => assert!(length.parse::<usize>().unwrap() > 100),
        }
    }
    let response = bench.send("GET", &format!("{WEB}/blobs/{layer}"), &[], "").await;
    assert_eq!((header(&response, "content-length").as_str(), response.status().as_u16()), ("4", 200));
    assert_eq!(bytes(response).await, "\0asm");
    assert_eq!(bench.leftovers(), 0);
}

#[tokio::test]
async fn one_range_is_served() {
    let bench = bench().await;
    let digest = bench.push_blob(b"0123456789").await;
    let path = format!("{WEB}/blobs/{digest}");
    let response = bench.send("GET", &path, &[("range", "bytes=2-4")], "").await;
    assert_eq!(
        (response.status().as_u16(), header(&response, "content-range").as_str()),
        (206, "bytes 2-4/10")
    );
    assert_eq!(bytes(response).await, "234");
    let response = bench.send("GET", &path, &[("range", "bytes=-3")], "").await;
    assert_eq!(bytes(response).await, "789");
    let response = bench.send("GET", &path, &[("range", "bytes=10-")], "").await;
    assert_eq!(header(&response, "content-range"), "bytes */10");
    assert_eq!(refused(response).await.0, 416);
    let response = bench.send("HEAD", &path, &[], "").await;
    assert_eq!((response.status().as_u16(), header(&response, "content-length").as_str()), (200, "10"));
    assert_eq!(bytes(response).await, "");
}

#[tokio::test]
async fn an_upload_in_chunks_goes_on_where_it_was_cut_off() {
    let bench = bench().await;
    let location = bench.start().await;
    let response =
        bench.send("PATCH", &location, &[("content-range", "0-4"), ("content-length", "5")], "hello").await;
    assert_eq!((response.status().as_u16(), header(&response, "range").as_str()), (202, "0-4"));

    let cut = refused(bench.send("PATCH", &location, &[], cut_off(" wo")).await).await;
    assert_eq!((cut.0, cut.1.as_str()), (400, "BLOB_UPLOAD_INVALID"));
    let response = bench.send("GET", &location, &[], "").await;
    assert_eq!((response.status().as_u16(), header(&response, "range").as_str()), (204, "0-7"));

    let out_of_order = bench.send("PATCH", &location, &[("content-range", "5-7")], " wo").await;
    let (status, _, message) = refused(out_of_order).await;
    assert_eq!((status, message.as_str()), (416, "the chunk starts at byte 5, the upload is at 8"));

    let expected = digest(b"hello world");
    let response = bench.send("PUT", &format!("{location}?digest={expected}"), &[], "rld").await;
    assert_eq!(response.status(), 201);
    let response = bench.send("GET", &format!("{WEB}/blobs/{expected}"), &[], "").await;
    assert_eq!(bytes(response).await, "hello world");
    // The session has ended with it.
    let (status, code, _) = refused(bench.send("GET", &location, &[], "").await).await;
    assert_eq!((status, code.as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[tokio::test]
async fn a_push_cut_off_half_way_leaves_nothing() {
    let bench = bench().await;
    let expected = digest(b"half and half");
    let path = format!("{WEB}/blobs/uploads/?digest={expected}");
    assert_eq!(refused(bench.send("POST", &path, &[], cut_off("half ")).await).await.0, 400);
    assert_eq!(bench.send("HEAD", &format!("{WEB}/blobs/{expected}"), &[], "").await.status(), 404);
    assert_eq!(bench.leftovers(), 0);
}

#[tokio::test]
async fn wrong_digests_are_refused() {
    let bench = bench().await;
    let other = digest(b"other");
    let response = bench.send("POST", &format!("{WEB}/blobs/uploads/?digest={other}"), &[], "bytes").await;
    let (status, code, message) = refused(response).await;
    assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(message, format!("the bytes received are {}, not {other}", digest(b"bytes")));

    let location = bench.start().await;
    let response = bench.send("PUT", &format!("{location}?digest={other}"), &[], "bytes").await;
    assert_eq!(refused(response).await.1, "DIGEST_INVALID");
    let response = bench.send("POST", &format!("{WEB}/blobs/uploads/?digest=sha512:00"), &[], "bytes").await;
    assert_eq!(refused(response).await.1, "DIGEST_INVALID");
    let location = bench.start().await;
    let response = bench.send("PUT", &location, &[], "bytes").await;
    assert!(refused(response).await.2.contains("?digest="));
    let response = bench.send("PUT", &format!("{WEB}/manifests/{other}"), &[], "{}").await;
    assert_eq!(refused(response).await.1, "DIGEST_INVALID");
    assert_eq!(bench.send("HEAD", &format!("{WEB}/blobs/{other}"), &[], "").await.status(), 404);
}

#[tokio::test]
async fn an_upload_is_ended_on_request_or_when_nobody_uses_it() {
    let bench = bench().await;
    let (dropped, idle, used) = (bench.start().await, bench.start().await, bench.start().await);
    assert_eq!(bench.leftovers(), 3);
    assert_eq!(bench.send("DELETE", &dropped, &[], "").await.status(), 204);
    assert_eq!(refused(bench.send("DELETE", &dropped, &[], "").await).await.0, 404);
    assert_eq!(bench.leftovers(), 2);

    bench.clock.advance(Millis(IDLE.0 / 2 + 1));
    assert_eq!(bench.send("PATCH", &used, &[], "x").await.status(), 202);
    bench.clock.advance(Millis(IDLE.0 / 2));
    bench.registry.0.sessions.expire();
    assert_eq!(refused(bench.send("GET", &idle, &[], "").await).await.0, 404);
    assert_eq!(bench.send("GET", &used, &[], "").await.status(), 204);
    assert_eq!(bench.leftovers(), 1);
}

#[tokio::test]
async fn tidying_runs_until_it_is_stopped() {
    let bench = bench().await;
    bench.start().await;
    let stop = CancellationToken::new();
    let tidying = tokio::spawn({
        let (registry, stop) = (bench.registry.clone(), stop.clone());
        async move { registry.tidy(stop).await }
    });
    std::fs::write(bench.folder.path().join("incoming/1-0"), "dead").unwrap();
    let swept = async {
        while bench.leftovers() > 0 {
            bench.clock.advance(IDLE);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), swept).await.unwrap();
    stop.cancel();
    tidying.await.unwrap();
}

#[tokio::test]
async fn one_request_at_a_time_works_on_an_upload() {
    let bench = bench().await;
    let location = bench.start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let router = bench.registry.router();
    let request = HttpRequest::builder()
        .method("PATCH")
        .uri(&location)
        .body(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)))
        .unwrap();
    let slow = tokio::spawn(router.oneshot(request));
    let busy = async {
        loop {
            let response = bench.send("GET", &location, &[], "").await;
            if response.status() == 409 {
                return response;
            }
            tokio::task::yield_now().await;
        }
    };
    let response = tokio::time::timeout(std::time::Duration::from_secs(20), busy).await.unwrap();
    assert!(refused(response).await.2.contains("another request works on upload"));
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().status(), 202);
    assert_eq!(bench.send("GET", &location, &[], "").await.status(), 204);
}

#[tokio::test]
async fn uploads_at_once_are_bounded_and_unused_ones_make_room() {
    let bench = bench().await;
    let mut last = String::new();
    for _ in 0..UPLOADS_PER_DOMAIN {
        last = bench.start().await;
    }
    // Another tenant is not held up by that, until there are no places at all.
    for number in UPLOADS_PER_DOMAIN..UPLOADS {
        let path = format!("/v2/other-{}.com/web/blobs/uploads/", number / UPLOADS_PER_DOMAIN);
        assert_eq!(bench.send("POST", &path, &[], "").await.status(), 202, "{path}");
    }
    assert_eq!(bench.send("POST", "/v2/last.com/web/blobs/uploads/", &[], "").await.status(), 429);
    let response = bench.send("POST", &format!("{WEB}/blobs/uploads/"), &[], "").await;
    assert_eq!(header(&response, "retry-after"), "1");
    let (status, code, _) = refused(response).await;
    assert_eq!((status, code.as_str()), (429, "TOOMANYREQUESTS"));
    assert_eq!(bench.send("DELETE", &last, &[], "").await.status(), 204);
    bench.start().await;
    bench.clock.advance(IDLE);
    bench.start().await;
    assert_eq!(bench.leftovers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up() {
    // Paused time runs on by itself once every task waits, so this takes no time.
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let registry = Registry::new(Arc::new(blobs), Arc::new(SystemClock), Random::seeded(1));
    let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"a"))]);
    let body = Body::from_stream(pieces.chain(futures_util::stream::pending()));
    let path = format!("{WEB}/blobs/uploads/?digest={}", digest(b"ab"));
    let request = HttpRequest::builder().method("POST").uri(path).body(body).unwrap();
    let (status, _, message) = refused(registry.router().oneshot(request).await.unwrap()).await;
    assert_eq!((status, message.as_str()), (408, "nothing came for 60 seconds"));
}

#[tokio::test]
async fn a_manifest_must_fit_what_is_there() {
    let bench = bench().await;
    let config = bench.push_blob(b"{}").await;
    let missing = digest(b"missing");
    let (_, response) = bench.put_manifest(&manifest(&config, &missing, 4)).await;
    let (status, code, message) = refused(response).await;
    assert_eq!((status, code.as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert!(message.contains(&missing.to_string()), "{message}");

    let layer = bench.push_blob(b"\0asm").await;
    let (digest, response) = bench.put_manifest(&manifest(&config, &layer, 5)).await;
    let (status, code, message) = refused(response).await;
    assert_eq!((status, code.as_str()), (400, "MANIFEST_INVALID"));
    assert!(message.ends_with("has 5 bytes, it has 4"), "{message}");
    assert_eq!(bench.send("HEAD", &format!("{WEB}/manifests/{digest}"), &[], "").await.status(), 404);

    let good = manifest(&config, &layer, 4).to_string();
    let path = format!("{WEB}/manifests/{}", tutti_base::sha256::digest(good.as_bytes()));
    let response = bench.send("PUT", &path, &[("content-type", "text/plain")], good).await;
    assert!(refused(response).await.2.starts_with("Content-Type is \"text/plain\""));

    let huge = vec![b' '; limits::OCI_MANIFEST_BYTES + 1];
    let path = format!("{WEB}/manifests/{}", tutti_base::sha256::digest(&huge));
    assert_eq!(refused(bench.send("PUT", &path, &[], huge).await).await.0, 413);
}

#[tokio::test]
async fn a_blob_is_no_manifest() {
    let bench = bench().await;
    let blob = bench.push_blob(b"\0asm").await;
    let (status, code, _) =
        refused(bench.send("GET", &format!("{WEB}/manifests/{blob}"), &[], "").await).await;
    assert_eq!((status, code.as_str()), (404, "MANIFEST_UNKNOWN"));
}

#[tokio::test]
async fn tags_are_refused_with_the_way_to_make_a_version() {
    let bench = bench().await;
    let response = bench.send("PUT", &format!("{WEB}/manifests/1.0"), &[], "{}").await;
    let status = response.status();
    let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!((status.as_u16(), &body["errors"][0]["code"]), (400, &json!("UNSUPPORTED")));
    assert_eq!(
        body["errors"][0]["detail"]["hint"],
        json!("versions are made by: tutti push PATH example.com:web@1.0")
    );
    assert_eq!(
        refused(bench.send("GET", &format!("{WEB}/manifests/1.0"), &[], "").await).await.1,
        "MANIFEST_UNKNOWN"
    );
}

#[tokio::test]
async fn another_repository_does_not_show_what_was_not_pushed_to_it() {
    let bench = bench().await;
    let digest = bench.push_blob(b"secret").await;
    let theirs = "/v2/example.org/web";
    let (status, code, _) =
        refused(bench.send("GET", &format!("{theirs}/blobs/{digest}"), &[], "").await).await;
    assert_eq!((status, code.as_str()), (404, "BLOB_UNKNOWN"));
    // Nor is one repository's upload another's, nor does a mount hand it over.
    let location = bench.start().await;
    let id = location.rsplit('/').next().unwrap();
    assert_eq!(bench.send("GET", &format!("{theirs}/blobs/uploads/{id}"), &[], "").await.status(), 404);
    let mount = format!("{theirs}/blobs/uploads/?mount={digest}&from=example.com/web");
    assert_eq!(bench.send("POST", &mount, &[], "").await.status(), 202);
    assert_eq!(bench.send("HEAD", &format!("{theirs}/blobs/{digest}"), &[], "").await.status(), 404);
}

#[tokio::test]
async fn names_that_reach_outside_are_refused() {
    let bench = bench().await;
    let none = digest(b"none");
    for name in
        ["../web", "example.com/..", "example.com/.hidden", "example.com/%2e%2e", "EXAMPLE.com/web", "web"]
    {
        let response =
            bench.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={none}"), &[], "none").await;
        let (status, code, _) = refused(response).await;
        assert_eq!((status, code.as_str()), (400, "NAME_INVALID"), "{name}");
    }
    assert_eq!(std::fs::read_dir(bench.folder.path().join("repositories")).unwrap().count(), 0);
    assert!(!Path::new(bench.folder.path()).parent().unwrap().join("web").exists());
    let (status, code, _) = refused(bench.send("GET", "/v2/_catalog", &[], "").await).await;
    assert_eq!((status, code.as_str()), (404, "UNSUPPORTED"));
}

#[tokio::test]
async fn methods_that_mean_nothing_say_what_does() {
    let bench = bench().await;
    let blob = bench.push_blob(b"x").await;
    let location = bench.start().await;
    for (method, path, allowed) in [
        ("GET", format!("{WEB}/blobs/uploads/"), "POST"),
        ("DELETE", format!("{WEB}/blobs/{blob}"), "GET, HEAD"),
        ("DELETE", format!("{WEB}/manifests/{blob}"), "GET, HEAD, PUT"),
        ("DELETE", format!("{WEB}/manifests/1.0"), "GET, HEAD, PUT"),
        ("POST", location, "GET, PATCH, PUT, DELETE"),
    ] {
        let response = bench.send(method, &path, &[], "").await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "allow").as_str()),
            (405, allowed),
            "{path}"
        );
    }
}
