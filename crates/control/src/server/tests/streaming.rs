//! Watches and followed logs.

use super::*;
use std::time::Duration;
use tutti_model::Millis;

/// Lines of an answer that does not end by itself.
pub(super) struct Reading {
    body: axum::body::BodyDataStream,
    rest: String,
}

impl Reading {
    pub(super) async fn open(api: &Api, who: &str, path: &str) -> Reading {
        let request = api.request(who, Method::GET, path, None);
        let response = api.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Reading { body: response.into_body().into_data_stream(), rest: String::new() }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(value);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.body.next())
                .await
                .expect("a line in time")?;
            self.rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    pub(super) async fn expect(&mut self, what: &str) -> Value {
        let line = self.next().await.expect("not the end");
        match line {
            Value::String(word) if word == what => Value::Null,
            Value::Object(fields) if fields.contains_key(what) => fields[what].clone(),
            other => panic!("{other} is not {what}"),
        }
    }
}

#[tokio::test]
async fn a_watch_shows_what_is_and_what_changes_and_lives() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let mut watch = Reading::open(&api, "admin", "/v1/versions?watch").await;
    watch.expect("init").await;
    assert_eq!(watch.expect("init_item").await["name"], "example.com:web@1.0");
    let revision = watch.expect("init_done").await["revision"].as_u64().unwrap();
    api.push("example.com:web@2.0").await.expect(201);
    let changes = watch.expect("changes").await;
    assert_eq!(changes["changes"][0]["put"]["name"], "example.com:web@2.0");
    let mut resumed = Reading::open(&api, "admin", &format!("/v1/versions?watch={revision}")).await;
    assert_eq!(resumed.expect("changes").await, changes);
    // A sign of life once it has been quiet for long enough.
    let quiet = tokio::spawn(async move { watch.expect("changes").await });
    while !quiet.is_finished() {
        tokio::task::yield_now().await;
        api.clock.advance(Millis::seconds(1));
    }
    let alive = quiet.await.unwrap();
    assert_eq!((&alive["changes"], &alive["revision"]), (&json!([]), &changes["revision"]));
    api.tasks.stop();
    while resumed.next().await.is_some() {}
}

#[tokio::test]
async fn a_watch_shows_only_what_is_seen() {
    let api = Api::with_roles().await;
    api.push("example.com:web@1.0").await.expect(201);
    api.push("other.org:web@1.0").await.expect(201);
    let route = async |host: &str, service: &str| {
        api.post("/v1/routes", json!({ "match": host, "service": service })).await.expect(201)
    };
    route("www.example.com", "example.com:web").await;
    route("a.other.org", "other.org:web").await;
    let mut watch = Reading::open(&api, "other viewer", "/v1/routes?watch").await;
    watch.expect("init").await;
    assert_eq!(watch.expect("init_item").await["name"], "a.other.org");
    let revision = watch.expect("init_done").await["revision"].as_u64().unwrap();
    // Another's deletion tells not even a name; one's own does, also to who resumes.
    api.delete("/v1/routes/www.example.com").await.expect(204);
    api.delete("/v1/routes/a.other.org").await.expect(204);
    assert_eq!(watch.expect("changes").await["changes"], json!([{ "delete": { "name": "a.other.org" } }]));
    let mut resumed = Reading::open(&api, "other viewer", &format!("/v1/routes?watch={revision}")).await;
    assert_eq!(resumed.expect("changes").await["changes"], json!([{ "delete": { "name": "a.other.org" } }]));
    let path = "/v1/services?watch&domain=example.com";
    let mut theirs = Reading::open(&api, "other viewer", path).await;
    theirs.expect("init").await;
    theirs.expect("init_done").await;
}

#[tokio::test]
async fn a_watch_over_tokens_never_shows_a_hash() {
    let api = Api::start().await;
    let mut watch = Reading::open(&api, "admin", "/v1/tokens?watch").await;
    watch.expect("init").await;
    let shown = watch.expect("init_item").await;
    assert_eq!((&shown["name"], &shown["spec"]), (&json!("admin"), &json!({ "role": "admin" })));
    watch.expect("init_done").await;
    api.post("/v1/tokens", json!({ "name": "ci", "role": "admin" })).await.expect(201);
    let changes = watch.expect("changes").await;
    assert_eq!(changes["changes"][0]["put"]["spec"], json!({ "role": "admin" }));
}

#[tokio::test]
async fn watches_have_a_bound() {
    let api = Api::start().await;
    let mut open = Vec::new();
    for _ in 0..super::super::streams::STREAMS_PER_TOKEN {
        open.push(Reading::open(&api, "admin", "/v1/services?watch").await);
    }
    let got = api.get("/v1/services?watch").await.expect(429);
    assert_eq!(got.body["code"], "quota_exceeded");
    drop(open);
    Reading::open(&api, "admin", "/v1/services?watch").await.expect("init").await;
    api.get("/v1/services?watch&limit=1").await.expect(400);
    api.get("/v1/services?watch=x").await.expect(400);
}

#[tokio::test]
async fn logs_are_read_and_followed_into_new_instances() {
    let api = Api::start().await;
    let (_, instance) = api.populate().await;
    let got = api.get("/v1/logs?service=example.com:web&tail=5&since=3").await.expect(200);
    assert_eq!(got.body["line"], format!("hello from {instance}"));
    let asked = api.lines.asked.lock().unwrap().pop().unwrap();
    assert_eq!((asked.tail, asked.since, asked.follow), (Some(5), Some(Timestamp(3)), false));
    let mut log = Reading::open(&api, "admin", "/v1/logs?version=example.com:web@1.0&follow").await;
    assert_eq!(log.next().await.unwrap()["instance"], instance);
    api.instance("example.com:web@2.0", 2).await;
    let later = api.instance("example.com:web@1.0", 3).await;
    assert_eq!(log.next().await.unwrap()["instance"], later.to_string(), "and not that of 2.0");
    api.tasks.stop();
    assert_eq!(log.next().await, None);
    for bad in ["", "?service=example.com:web&instance=i-0000000000", "?service=example.com:web&tail=x"] {
        api.get(&format!("/v1/logs{bad}")).await.expect(400);
    }
    let got = api.get("/v1/logs?service=example.com:wbe").await.expect(404);
    assert_eq!(got.hint(), "did you mean \"example.com:web\"?");
}

#[tokio::test]
async fn lines_of_instances_that_are_gone_are_for_their_own_service_and_domain_only() {
    let api = Api::with_roles().await;
    let (_, living) = api.populate().await;
    let created = api.objects.get::<ServiceSpec>("example.com:web").await.unwrap().created_at;
    let kept = |number: u64, version: &str, started: u64| Kept {
        instance: InstanceId::from_bits(number),
        version: version.parse().unwrap(),
        started: Timestamp(started),
    };
    let (gone, of_another_time) = (InstanceId::from_bits(70), InstanceId::from_bits(71));
    *api.lines.kept.lock().unwrap() = vec![
        kept(72, "example.com:web@2.0", created.0 + 9),
        kept(70, "example.com:web@0.9", created.0 + 5),
        // Of a service with this name that was deleted before this one was made.
        kept(71, "example.com:web@1.0", created.0 - 1),
        kept(73, "example.com:api@1.0", created.0 + 5),
        Kept { instance: living.parse().unwrap(), ..kept(0, "example.com:web@1.0", created.0 + 6) },
    ];
    let asked = async |query: &str| {
        api.get(&format!("/v1/logs?{query}")).await.expect(200);
        let asked = api.lines.asked.lock().unwrap().pop();
        let asked = asked.map_or_else(Vec::new, |asked| asked.instances);
        asked.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let newer = InstanceId::from_bits(72).to_string();
    let gone = gone.to_string();
    assert_eq!(asked("service=example.com:web").await, [gone.clone(), newer.clone(), living.clone()]);
    assert_eq!(asked("service=example.com:web&previous").await, [gone.clone(), newer.clone()]);
    assert_eq!(asked("version=example.com:web@2.0").await, [newer.as_str()]);
    assert_eq!(asked(&format!("instance={gone}")).await, [gone.as_str()], "even though its version is gone");
    assert_eq!(asked(&format!("instance={of_another_time}")).await, [""; 0]);
    api.get("/v1/logs?service=example.com:web&previous&follow").await.expect(400);
    api.get("/v1/logs?instance=i-zzzzzzzzzz").await.expect(404);
    for path in [format!("instance={gone}"), "service=example.com:web&previous".to_owned()] {
        let path = format!("/v1/logs?{path}");
        api.call("viewer", Method::GET, &path, None).await.expect(200);
        api.call("other owner", Method::GET, &path, None).await.expect(404);
    }
}

/// Who is removed, or whose token is, sees nothing more from then on, over what was already open too.
#[tokio::test]
async fn what_goes_on_ends_with_the_right_to_it() {
    let mut api = Api::start().await;
    for user in ["ada", "vic"] {
        api.user(user).await;
    }
    api.populate().await;
    api.member("example.com", "ada", "owner").await;
    let mut watch = Reading::open(&api, "vic", "/v1/services?watch").await;
    watch.expect("init").await;
    watch.expect("init_done").await;
    // What comes to be seen begins the watch anew, with all of it.
    api.member("example.com", "vic", "viewer").await;
    watch.expect("init").await;
    assert_eq!(watch.expect("init_item").await["name"], "example.com:web");
    watch.expect("init_done").await;
    let mut log = Reading::open(&api, "vic", "/v1/logs?service=example.com:web&follow").await;
    log.next().await.unwrap();
    // Another role changes nothing of what is seen.
    let path = "/v1/domains/example.com/members/vic";
    api.call("ada", Method::PUT, path, Some(json!({ "role": "deployer" }))).await.expect(200);
    api.call("ada", Method::DELETE, path, None).await.expect(200);
    api.push("example.com:later@1.0").await.expect(201);
    api.instance("example.com:web@1.0", 9).await;
    watch.expect("init").await;
    watch.expect("init_done").await;
    assert_eq!(log.next().await.unwrap()["code"], "not_found");
    assert_eq!(log.next().await, None);
    // A token that is deleted or ends takes its streams along.
    let body = json!({ "name": "brief", "user": "vic", "expires_in": "1h" });
    let brief = api.post("/v1/tokens", body).await.expect(201).body["secret"].as_str().unwrap().to_owned();
    let mut brief = Reading::open(&api, &brief, "/v1/services?watch").await;
    brief.expect("init").await;
    brief.expect("init_done").await;
    api.clock.advance(Millis::seconds(3600));
    assert_eq!(brief.next().await.unwrap()["code"], "unauthenticated");
    assert_eq!(brief.next().await, None);
    api.delete("/v1/users/vic").await.expect(204);
    loop {
        // A sign of life may come before it.
        let line = watch.next().await.expect("not the end");
        if line["code"] == "unauthenticated" {
            break;
        }
        assert!(line["changes"].is_object(), "{line}");
    }
    assert_eq!(watch.next().await, None);
}
