//! Domains, members, users and their tokens, from the first claim to the last removal.

use super::*;
use tutti_model::{Millis, claim::ClaimSpec};

impl Api {
    /// A user with a token, called by the user's name from then on.
    pub(super) async fn user(&mut self, name: &'static str) {
        let made = self.post("/v1/users", json!({ "name": name })).await.expect(201);
        assert_eq!(made.body["name"], format!("{name}/first"));
        self.tokens.insert(name, made.body["secret"].as_str().unwrap().to_owned());
    }

    /// Makes a user a member, who accepts.
    pub(super) async fn member(&self, domain: &str, user: &'static str, role: &str) {
        let body = json!({ "user": user, "role": role });
        self.post(&format!("/v1/domains/{domain}/members"), body).await.expect(200);
        self.call(user, Method::POST, &format!("/v1/invitations/{domain}/accept"), None).await.expect(200);
    }

    /// Claims a domain, sets its record, and proves it.
    async fn prove(&self, who: &str, domain: &str) -> Got {
        let claim =
            self.call(who, Method::POST, "/v1/domains", Some(json!({ "name": domain }))).await.expect(202);
        self.record(&claim.body);
        self.call(who, Method::POST, &format!("/v1/domains/{domain}/verify"), None).await
    }

    /// Sets the record that a claim asks for.
    pub(super) fn record(&self, claim: &Value) {
        let text = |key: &str| claim["spec"][key].as_str().unwrap().to_owned();
        self.records.0.lock().unwrap().insert(text("record"), Ok(vec!["v=spf1 -all".into(), text("text")]));
    }
}

#[tokio::test]
async fn a_domain_is_proved_by_its_record_and_nothing_else() {
    let mut api = Api::start().await;
    api.user("ada").await;
    let body = json!({ "name": "ada.org" });
    let claim = api.call("ada", Method::POST, "/v1/domains", Some(body.clone())).await.expect(202);
    assert_eq!(claim.body["spec"]["record"], "_tutti-challenge.ada.org");
    let text = claim.body["spec"]["text"].as_str().unwrap();
    assert!(text.starts_with("tutti-verify=") && text.len() > 30, "{text}");
    let again = api.call("ada", Method::POST, "/v1/domains", Some(body)).await.expect(202);
    assert_eq!(again.body["spec"], claim.body["spec"], "asked again, the record stays what it was");
    api.get("/v1/domains/ada.org").await.expect(404);

    let set = |found: Result<Vec<String>, TxtFault>| {
        api.records.0.lock().unwrap().insert("_tutti-challenge.ada.org".into(), found);
    };
    for (found, status, said, todo) in [
        (Err(TxtFault::NoName), 404, "does not exist in the DNS (NXDOMAIN)", text),
        (Err(TxtFault::NoRecord), 404, "has no TXT record", text),
        (Ok(vec!["other".to_owned()]), 409, "says something else: \"other\"", text),
        (Ok(vec![format!("{text}x")]), 409, "says something else", text),
        (Err(TxtFault::Refused("SERVFAIL".into())), 503, "answered SERVFAIL", "name servers answer"),
        (Err(TxtFault::Timeout(4)), 504, "within 4 s", "try again"),
        (Err(TxtFault::Unreachable("no route".into())), 503, "no route", "resolver"),
    ] {
        set(found);
        let got = api.call("ada", Method::POST, "/v1/domains/ada.org/verify", None).await.expect(status);
        assert!(got.detail().contains(said), "{}", got.body);
        assert!(got.hint().contains(todo), "{}", got.body);
        api.get("/v1/domains/ada.org").await.expect(404);
    }
    set(Ok(vec!["v=spf1 -all".into(), text.to_owned()]));
    let made = api.call("ada", Method::POST, "/v1/domains/ada.org/verify", None).await.expect(201);
    assert_eq!(made.body["status"]["ownership"], "verified");
    assert_eq!(made.body["spec"]["members"][0]["user"], "ada");
    let claims = api.call("ada", Method::GET, "/v1/claims", None).await.expect(200);
    assert_eq!(claims.body["items"], json!([]));
    let who = api.call("ada", Method::GET, "/v1/whoami", None).await.expect(200);
    assert_eq!(who.body["domains"], json!({ "ada.org": "owner" }));
    // At once, for the very next request.
    api.call("ada", Method::POST, "/v1/services", Some(json!({ "service": "ada.org:web" })))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_claim_tells_nothing_and_proves_nothing_for_others() {
    let mut api = Api::start().await;
    api.user("ada").await;
    api.user("bob").await;
    // There or not: the same, but for the random text.
    let claim = async |name: &str| {
        let mut got =
            api.call("ada", Method::POST, "/v1/domains", Some(json!({ "name": name }))).await.expect(202);
        for key in ["uid", "revision", "name"] {
            got.body.as_object_mut().unwrap().remove(key);
        }
        let text = got.body["spec"]["text"].take();
        assert_eq!(text.as_str().unwrap().len(), "tutti-verify=".len() + 26);
        got.body.to_string().replace(name, "NAME")
    };
    assert_eq!(claim("example.com").await, claim("exampla.com").await);
    let verify = "/v1/domains/example.com/verify";
    let unproved = api.call("ada", Method::POST, verify, None).await.expect(404);
    assert!(unproved.detail().contains("NXDOMAIN"), "{}", unproved.body);
    // Another's record is nobody else's proof.
    let mine = api.objects.get::<ClaimSpec>("ada/example.com").await.unwrap();
    let theirs = api.call("bob", Method::POST, "/v1/domains", Some(json!({ "name": "example.com" }))).await;
    assert_ne!(theirs.body["spec"]["text"], json!(mine.spec.text));
    api.record(&theirs.body);
    let refused = api.call("ada", Method::POST, verify, None).await.expect(409);
    assert!(refused.detail().contains("something else"), "{}", refused.body);
    // Who has proved it is told that it is taken; nothing changes hands.
    let taken = api.call("bob", Method::POST, verify, None).await.expect(409);
    assert_eq!(taken.body["code"], "already_exists");
    assert!(taken.hint().contains("invitation"), "{}", taken.body);
    // Claims are one's own.
    let seen = api.call("bob", Method::GET, "/v1/claims", None).await;
    assert_eq!(seen.body["items"].as_array().unwrap().len(), 1);
    api.call("bob", Method::DELETE, "/v1/claims/exampla.com", None).await.expect(404);
    api.call("ada", Method::DELETE, "/v1/claims/exampla.com", None).await.expect(204);
    api.call("ada", Method::POST, "/v1/domains/exampla.com/verify", None).await.expect(404);
}

#[tokio::test]
async fn claims_have_a_most_and_an_end() {
    let mut api = Api::start().await;
    api.user("ada").await;
    let claim = async |index: usize| {
        let body = json!({ "name": format!("a{index}.org") });
        api.call("ada", Method::POST, "/v1/domains", Some(body)).await
    };
    for index in 0..16 {
        claim(index).await.expect(202);
    }
    assert_eq!(claim(16).await.expect(429).body["code"], "quota_exceeded");
    api.clock.advance(Millis::seconds(30 * 24 * 3600));
    let late = api.call("ada", Method::POST, "/v1/domains/a0.org/verify", None).await.expect(404);
    assert!(late.detail().contains("no claim"), "{}", late.body);
    claim(16).await.expect(202);
    let left = api.call("ada", Method::GET, "/v1/claims", None).await;
    assert_eq!(left.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_vouching_an_admin_proves_too() {
    let api = Api::started(false).await;
    let claim = api.post("/v1/domains", json!({ "name": "new.org" })).await.expect(202);
    api.get("/v1/domains/new.org").await.expect(404);
    api.record(&claim.body);
    let made = api.call("admin", Method::POST, "/v1/domains/new.org/verify", None).await.expect(201);
    assert_eq!(made.body["status"]["ownership"], "verified");
    assert_eq!(made.body["spec"]["members"], Value::Null, "admins run it until an owner has accepted");
}

#[tokio::test]
async fn members_come_by_invitation_and_go_at_once() {
    let mut api = Api::start().await;
    for user in ["ada", "bob"] {
        api.user(user).await;
    }
    api.push("example.com:web@1.0").await.expect(201);
    api.member("example.com", "ada", "owner").await;
    let members = "/v1/domains/example.com/members";
    let invite = |user: &str, role: &str| json!({ "user": user, "role": role });
    // Whoever is invited, or not there at all: nobody is told.
    for user in ["bob", "nobody@example.net"] {
        api.call("ada", Method::POST, members, Some(invite(user, "viewer"))).await.expect(200);
    }
    let seen = api.call("bob", Method::GET, "/v1/domains/example.com", None).await;
    assert_eq!(seen.status, 404, "an invitation shows nothing: {}", seen.body);
    let invitations = api.call("bob", Method::GET, "/v1/invitations", None).await.expect(200);
    assert_eq!(invitations.body["items"], json!([{ "domain": "example.com", "role": "viewer" }]));
    // Nobody accepts for another, and nobody without an invitation; be there such a domain or not.
    for domain in ["example.com", "exampla.com"] {
        let path = format!("/v1/invitations/{domain}/accept");
        let got = api.call("ada", Method::POST, &path, None).await;
        let status = if domain == "example.com" { 200 } else { 404 };
        got.expect(status);
        api.call("admin", Method::POST, &path, None).await.expect(403);
    }
    api.call("bob", Method::POST, "/v1/invitations/example.com/accept", None).await.expect(200);
    let mine = api.call("bob", Method::GET, "/v1/services", None).await.expect(200);
    assert_eq!(mine.body["items"].as_array().unwrap().len(), 1);
    api.call("bob", Method::PUT, "/v1/services/example.com:web/scale", Some(json!({ "workers": 2 })))
        .await
        .expect(403);
    let path = format!("{members}/bob");
    api.call("ada", Method::PUT, &path, Some(json!({ "role": "deployer" }))).await.expect(200);
    api.call("bob", Method::PUT, "/v1/services/example.com:web/scale", Some(json!({ "workers": 2 })))
        .await
        .expect(200);
    // The last owner stays, whoever asks.
    let owner = format!("{members}/ada");
    for (who, method, path, body) in [
        ("ada", Method::POST, "/v1/domains/example.com/leave", None),
        ("ada", Method::DELETE, owner.as_str(), None),
        ("admin", Method::DELETE, owner.as_str(), None),
        ("admin", Method::PUT, owner.as_str(), Some(json!({ "role": "viewer" }))),
        ("admin", Method::DELETE, "/v1/users/ada", None),
    ] {
        let got = api.call(who, method, path, body).await.expect(409);
        assert!(got.detail().contains("only owner"), "{}", got.body);
    }
    api.call("ada", Method::GET, "/v1/domains/example.com", None).await.expect(200);
    api.call("ada", Method::DELETE, &path, None).await.expect(200);
    api.call("bob", Method::GET, "/v1/services/example.com:web", None).await.expect(404);
    let mine = api.call("bob", Method::GET, "/v1/services", None).await.expect(200);
    assert_eq!(mine.body["items"], json!([]));
    // Declining, and an invitation taken back.
    api.call("ada", Method::POST, members, Some(invite("bob", "viewer"))).await.expect(200);
    api.call("bob", Method::DELETE, "/v1/invitations/example.com", None).await.expect(204);
    api.call("bob", Method::DELETE, "/v1/invitations/example.com", None).await.expect(404);
    api.call("bob", Method::POST, "/v1/invitations/example.com/accept", None).await.expect(404);
}

#[tokio::test]
async fn a_user_of_the_same_name_is_another_one() {
    let mut api = Api::start().await;
    for user in ["ada", "bob"] {
        api.user(user).await;
    }
    api.member("example.com", "ada", "owner").await;
    api.member("example.com", "bob", "deployer").await;
    let first = api.tokens["bob"].clone();
    api.delete("/v1/users/bob").await.expect(204);
    api.call("bob", Method::GET, "/v1/whoami", None).await.expect(401);
    let domain = api.get("/v1/domains/example.com").await.expect(200);
    assert_eq!(domain.body["spec"]["members"].as_array().unwrap().len(), 1);
    assert!(
        api.get("/v1/tokens").await.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|token| token["name"] != "bob/first")
    );
    api.user("bob").await;
    api.call("bob", Method::GET, "/v1/domains/example.com", None).await.expect(404);
    api.call(&first, Method::GET, "/v1/whoami", None).await.expect(401);
    // A domain made anew is another one as well, for tokens of its name.
    let token = json!({ "name": "ci", "role": "owner", "domain": "fresh.org" });
    api.post("/v1/domains", json!({ "name": "fresh.org" })).await.expect(201);
    let made = api.post("/v1/tokens", token).await.expect(201);
    let ci = made.body["secret"].as_str().unwrap();
    api.call(ci, Method::GET, "/v1/domains/fresh.org", None).await.expect(200);
    api.delete("/v1/domains/fresh.org").await.expect(204);
    api.post("/v1/domains", json!({ "name": "fresh.org" })).await.expect(201);
    api.call(ci, Method::GET, "/v1/domains/fresh.org", None).await.expect(401);
}

#[tokio::test]
async fn tokens_grant_no_more_than_their_maker_has() {
    let mut api = Api::start().await;
    for user in ["ada", "bob"] {
        api.user(user).await;
    }
    api.member("example.com", "ada", "owner").await;
    api.member("example.com", "bob", "deployer").await;
    let make = async |who: &str, body: Value| api.call(who, Method::POST, "/v1/tokens", Some(body)).await;
    // One's own, narrowed.
    let narrow = json!({ "name": "read", "user": "bob", "role": "viewer", "domain": "example.com" });
    let read = make("bob", narrow).await.expect(201);
    assert_eq!(read.body["name"], "bob/read");
    let read = read.body["secret"].as_str().unwrap().to_owned();
    let who = api.call(&read, Method::GET, "/v1/whoami", None).await.expect(200);
    assert_eq!(who.body["domains"], json!({ "example.com": "viewer" }));
    api.call(&read, Method::POST, "/v1/services", Some(json!({ "service": "example.com:x" })))
        .await
        .expect(403);
    make(&read, json!({ "name": "more" })).await.expect(403);
    api.call(&read, Method::POST, "/v1/domains/example.com/leave", None).await.expect(403);
    api.call(&read, Method::POST, "/v1/domains", Some(json!({ "name": "b.org" }))).await.expect(403);
    // A domain's tokens are its owners' to make.
    let ci = json!({ "name": "ci", "role": "deployer", "domain": "example.com" });
    make("bob", ci.clone()).await.expect(403);
    let made = make("ada", ci.clone()).await.expect(201);
    assert_eq!(made.body["name"], "example.com/ci");
    let ci_secret = made.body["secret"].as_str().unwrap().to_owned();
    make(&ci_secret, json!({ "name": "more", "role": "owner", "domain": "example.com" })).await.expect(403);
    make("ada", json!({ "name": "x", "role": "deployer", "domain": "exampla.com" })).await.expect(404);
    make("ada", json!({ "name": "x", "role": "admin" })).await.expect(403);
    make("ada", json!({ "name": "x", "user": "bob" })).await.expect(403);
    make("ada", json!({ "name": "x", "user": "nobody" })).await.expect(403);
    make("ada", json!({ "name": "x", "user": "ada", "role": "admin" })).await.expect(400);
    // What ends makes nothing that goes on.
    let brief = make("ada", json!({ "name": "brief", "expires_in": "1h" })).await.expect(201);
    let brief = brief.body["secret"].as_str().unwrap().to_owned();
    make(&brief, json!({ "name": "long" })).await.expect(403);
    make(&brief, json!({ "name": "long", "expires_in": "2h" })).await.expect(403);
    make(&brief, json!({ "name": "short", "expires_in": "30m" })).await.expect(201);
    // Each sees one's own and those of domains one owns; and deletes only these.
    let names = async |who: &str| {
        let got = api.call(who, Method::GET, "/v1/tokens", None).await.expect(200);
        let items = got.body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("ada").await, ["ada/brief", "ada/first", "ada/short", "example.com/ci"]);
    assert_eq!(names("bob").await, ["bob/first", "bob/read"]);
    assert!(names(&ci_secret).await.is_empty());
    for unseen in ["ada%2Ffirst", "admin", "example.com%2Fci", "nobody%2Ffirst"] {
        api.call("bob", Method::DELETE, &format!("/v1/tokens/{unseen}"), None).await.expect(404);
    }
    api.call("bob", Method::DELETE, "/v1/tokens/read", None).await.expect(204);
    api.call("ada", Method::DELETE, "/v1/tokens/example.com%2Fci", None).await.expect(204);
    api.call(&ci_secret, Method::GET, "/v1/whoami", None).await.expect(401);
    for index in 0..15 {
        make("bob", json!({ "name": format!("t{index}") })).await.expect(201);
    }
    make("bob", json!({ "name": "one-more" })).await.expect(429);
}

#[tokio::test]
async fn an_alias_is_proved_reserved_and_given_back() {
    let mut api = Api::start().await;
    for user in ["ada", "bob"] {
        api.user(user).await;
    }
    api.member("example.com", "ada", "owner").await;
    let aliases = "/v1/domains/example.com/aliases";
    let claim =
        api.call("ada", Method::POST, aliases, Some(json!({ "alias": "example.org" }))).await.expect(202);
    assert_eq!(claim.body["spec"]["alias_of"], "example.com");
    api.call("ada", Method::POST, "/v1/domains/example.org/verify", None).await.expect(404);
    api.record(&claim.body);
    let added = api.call("ada", Method::POST, "/v1/domains/example.org/verify", None).await.expect(201);
    assert_eq!(added.body["spec"]["aliases"], json!(["example.org"]));
    // It is nobody else's, and stands for the domain where one is named.
    api.post("/v1/domains", json!({ "name": "example.org" })).await.expect(409);
    assert_eq!(api.prove("bob", "example.org").await.body["code"], "already_exists");
    let made =
        api.call("ada", Method::POST, "/v1/services", Some(json!({ "service": "org.example.Hello" }))).await;
    assert_eq!(made.expect(201).body["name"], "example.com:org.example.Hello");
    let route = json!({ "match": "shop.example.org", "service": "example.com:org.example.Hello" });
    api.call("ada", Method::POST, "/v1/routes", Some(route)).await.expect(201);
    api.call("bob", Method::DELETE, &format!("{aliases}/example.org"), None).await.expect(404);
    api.call("ada", Method::DELETE, &format!("{aliases}/example.org"), None).await.expect(200);
    api.call("ada", Method::DELETE, &format!("{aliases}/example.org"), None).await.expect(404);
    assert_eq!(api.prove("bob", "example.org").await.status, 201);
    // An admin vouches, where that is on.
    api.post(aliases, json!({ "alias": "example.net" })).await.expect(201);
    api.post(aliases, json!({ "alias": "example.com" })).await.expect(400);
}

#[tokio::test]
async fn a_services_domain_is_its_packages() {
    let mut api = Api::start().await;
    api.user("ada").await;
    api.post("/v1/domains", json!({ "name": "shop.example.com" })).await.expect(201);
    api.post("/v1/domains", json!({ "name": "other.org" })).await.expect(201);
    api.member("example.com", "ada", "deployer").await;
    api.member("shop.example.com", "ada", "viewer").await;
    let push = async |who: &str, version: &str| {
        api.call(who, Method::POST, "/v1/versions", Some(pushing(version, PUSHED))).await
    };
    let name = |got: Got| got.expect(201).body["name"].as_str().unwrap().to_owned();
    // The longest domain that the caller may deploy to.
    assert_eq!(name(push("ada", "com.example.shop.Cart@1.0").await), "example.com:com.example.shop.Cart@1.0");
    assert_eq!(
        name(push("admin", "com.example.shop.Cart@1.0").await),
        "shop.example.com:com.example.shop.Cart@1.0"
    );
    assert_eq!(
        name(push("ada", "example.com:bar.FooService@1.0.0").await),
        "example.com:bar.FooService@1.0.0"
    );
    assert_eq!(
        name(push("ada", "example.com:greeter.v1.Greeter@1.0").await),
        "example.com:greeter.v1.Greeter@1.0"
    );
    // Another's package, be it registered or not: the same answer.
    let refused = async |who: &str, package: &str| {
        let got = push(who, &format!("example.com:{package}.Hello@1.0")).await.expect(400);
        assert!(got.detail().contains("is not that of example.com"), "{}", got.body);
        got.body["detail"].to_string().replace(package, "PACKAGE") + &got.body["hint"].to_string()
    };
    assert_eq!(refused("ada", "org.other").await, refused("ada", "org.othera").await);
    refused("admin", "org.other").await;
    refused("ada", "com.examples").await;
}
