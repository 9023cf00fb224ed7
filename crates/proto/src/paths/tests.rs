use super::*;
use crate::compile::compile;
use crate::json::to_json;
use crate::stored;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use std::sync::LazyLock;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json");

fn pool(rules: &str) -> DescriptorPool {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tutti-paths-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rules.proto");
    let text = format!(
        "syntax = \"proto3\"; package test.rules; import \"google/api/annotations.proto\";
        service S {{ {rules} }}
        message Name {{ string name = 1; int64 revision = 2; }}
        message Request {{ string name = 1; Name inner = 2; repeated string tags = 3; int32 size = 4; map<string, string> map = 5; repeated Name names = 6; }}"
    );
    std::fs::write(&file, text).unwrap();
    let compiled = compile(&[file], std::slice::from_ref(&folder)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    // As a registry gives them back, so that it is known that the option outlives it.
    stored::open(&compiled.set).unwrap()
}

fn method(name: &str, rule: &str) -> String {
    format!("rpc {name}(Request) returns (Request) {{ option (google.api.http) = {{ {rule} }}; }}\n")
}

fn routes(rules: &str) -> Result<Routes, Vec<Fault>> {
    Routes::of(&pool(rules).get_service_by_name("test.rules.S").unwrap())
}

fn called(routes: &Routes, verb: &str, target: &str, body: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    match routes.find(verb, path) {
        Found::Route(found) => match found.message(query, body.as_bytes()) {
            Ok(bytes) => {
                let json = to_json(&found.route.method.input(), &bytes).unwrap();
                format!("{} {json}", found.route.method.name())
            }
            Err(fault) => format!("{} refuses {fault}", found.route.method.name()),
        },
        Found::OtherVerbs(verbs) => format!("takes {}", verbs.join(", ")),
        Found::Nothing => "nothing".to_owned(),
    }
}

static LIBRARY: LazyLock<Routes> = LazyLock::new(|| {
    let rules = [
        method(
            "Get",
            "get: \"/v1/{name=shelves/*/books/*}\" additional_bindings { get: \"/v1/books/{inner.name}\" }",
        ),
        method("List", "get: \"/v1/{name=shelves/*}/books\""),
        method("Mine", "get: \"/v1/shelves/mine/books\""),
        method("Create", "post: \"/v1/{name=shelves/*}/books\" body: \"inner\""),
        method(
            "Update",
            "patch: \"/v1/{inner.name=shelves/*/books/*}\" body: \"*\" response_body: \"inner\"",
        ),
        method("Publish", "post: \"/v1/{name=shelves/*/books/*}:publish\" body: \"*\""),
        method("File", "get: \"/v1/files/{name=**}\""),
        method("Revision", "get: \"/v1/revisions/{inner.revision}\""),
        method("Any", "custom { kind: \"*\" path: \"/v1/any/*/{size}\" }"),
    ];
    routes(&rules.concat()).unwrap()
});

#[test]
fn requests_find_the_most_particular_rule_and_make_its_message() {
    for (verb, target, body, result) in [
        ("GET", "/v1/shelves/1/books/2", "", r#"Get {"name":"shelves/1/books/2"}"#),
        ("GET", "/v1/shelves/a%20b/books/c%2Fd", "", r#"Get {"name":"shelves/a b/books/c%2Fd"}"#),
        ("GET", "/v1/books/x%2Fy", "", r#"Get {"inner":{"name":"x/y"}}"#),
        ("GET", "/v1/shelves/1/books", "", r#"List {"name":"shelves/1"}"#),
        ("GET", "/v1/shelves/mine/books", "", "Mine {}"),
        (
            "GET",
            "/v1/shelves/1/books?tags=a&tags=b+c&size=3&inner.revision=5",
            "",
            r#"List {"name":"shelves/1","inner":{"revision":"5"},"tags":["a","b c"],"size":3}"#,
        ),
        (
            "POST",
            "/v1/shelves/1/books",
            r#"{"name":"b"}"#,
            r#"Create {"name":"shelves/1","inner":{"name":"b"}}"#,
        ),
        (
            "POST",
            "/v1/shelves/1/books?size=2",
            r#"{"revision":7}"#,
            r#"Create {"name":"shelves/1","inner":{"revision":"7"},"size":2}"#,
        ),
        (
            "PATCH",
            "/v1/shelves/1/books/2",
            r#"{"inner":{"name":"not this","revision":"3"},"size":1}"#,
            r#"Update {"inner":{"name":"shelves/1/books/2","revision":"3"},"size":1}"#,
        ),
        ("POST", "/v1/shelves/1/books/2:publish", "", r#"Publish {"name":"shelves/1/books/2"}"#),
        ("GET", "/v1/files/a/b%2Fc/d", "", r#"File {"name":"a/b%2Fc/d"}"#),
        ("GET", "/v1/files", "", "File {}"),
        ("GET", "/v1/files/a:b", "", r#"File {"name":"a:b"}"#),
        ("GET", "/v1/revisions/-5", "", r#"Revision {"inner":{"revision":"-5"}}"#),
        ("OPTIONS", "/v1/any/x/5", "", r#"Any {"size":5}"#),
        ("GET", "/v1/shelves//books", "", "nothing"),
        ("GET", "/v1/shelves/1/books/", "", "nothing"),
        ("GET", "/v2/shelves/1/books", "", "nothing"),
        ("GET", "/v1/shelves/%zz/books", "", "nothing"),
        ("GET", "", "", "nothing"),
        ("DELETE", "/v1/shelves/1/books/2", "", "takes GET, PATCH"),
        ("GET", "/v1/any/x/y", "", "Any refuses size: expected a whole number, found \"y\""),
        (
            "GET",
            "/v1/shelves/1/books?colour=red",
            "",
            "List refuses test.rules.Request has no field \"colour\"",
        ),
        (
            "GET",
            "/v1/shelves/1/books?name=x",
            "",
            "List refuses name: is given by the path, not by the query",
        ),
        (
            "GET",
            "/v1/shelves/1/books?inner=x",
            "",
            "List refuses inner: is a message, which a query can't give",
        ),
        ("GET", "/v1/shelves/1/books?names.name=x", "", "List refuses names.name is not in a message"),
        ("GET", "/v1/shelves/1/books?size=1&size=2", "", "List refuses size: is given twice"),
        ("GET", "/v1/shelves/1/books?size=%", "", "List refuses the query is not well percent-encoded"),
        ("GET", "/v1/shelves/1/books", "{}", "List refuses the request has a body, and this path takes none"),
        (
            "POST",
            "/v1/shelves/1/books?inner.name=x",
            "{}",
            "Create refuses inner.name: is given in the body, not in the query",
        ),
        (
            "PATCH",
            "/v1/shelves/1/books/2",
            "{",
            "Update refuses line 1, column 2: expected a name in quotes, found the end",
        ),
        (
            "PATCH",
            "/v1/shelves/1/books/2?size=1",
            "{}",
            "Update refuses size: is given in the body, not in the query",
        ),
    ] {
        assert_eq!(called(&LIBRARY, verb, target, body), result, "{verb} {target}");
    }
    let long = format!("/v1/shelves/1/books?size=1{}", "&tags=x".repeat(PARAMETERS));
    assert!(called(&LIBRARY, "GET", &long, "").contains("more than 256 parameters"));
    let long = format!("/v1/files/{}", "x".repeat(TARGET_BYTES));
    assert_eq!(called(&LIBRARY, "GET", &long, ""), "nothing");
}

#[test]
fn rules_that_do_not_hold_are_refused_with_their_method() {
    for (rules, what) in [
        (method("A", "get: \"v1\""), "test.rules.S.A: the template does not begin with /: \"v1\""),
        (method("A", "get: \"/v1//x\""), "a segment of the template is empty"),
        (method("A", "get: \"/v1/{name\""), "no closing brace"),
        (method("A", "get: \"/v1/{name={size}}\""), "a variable stands in a variable"),
        (method("A", "get: \"/v1/**/x\""), "** stands before the end"),
        (method("A", "get: \"/v1/{nom}\""), "test.rules.Request has no field \"nom\""),
        (method("A", "get: \"/v1/{tags}\""), "gives tags, which is not a plain value"),
        (method("A", "get: \"/v1/{inner}\""), "gives inner, which is not a plain value"),
        (method("A", "get: \"/v1/{name}/{name}\""), "gives name twice"),
        (method("A", "get: \"/v1/a b\""), "is not part of a path"),
        (method("A", "get: \"/v1/%zz\""), "not well percent-encoded"),
        (method("A", "get: \"/v1/x}\""), "is not understood"),
        (method("A", "post: \"/v1\" body: \"nom\""), "has no field \"nom\""),
        (method("A", "post: \"/v1/{inner.name}\" body: \"inner\""), "both the path and the body give inner"),
        (method("A", "get: \"/v1\" response_body: \"nom\""), "has no field \"nom\""),
        (method("A", "custom { kind: \"get\" path: \"/v1\" }"), "is not an HTTP method in capitals"),
        (method("A", "body: \"*\""), "names no path"),
        (method("A", "post: \"/test.rules.S/A\""), "is the path of a method itself"),
        (
            method("A", "get: \"/v1/{name}\"") + &method("B", "get: \"/v1/{size}\""),
            "test.rules.S.A: a request for GET /v1/* would call test.rules.S.B as well",
        ),
        (
            method(
                "A",
                "get: \"/v1/a\" additional_bindings { get: \"/v1/b\" additional_bindings { get: \"/v1/c\" } }",
            ),
            "additional bindings of its own",
        ),
        (method("A", &format!("get: \"/{}\"", "x/".repeat(300))), "more than 64 segments"),
        (method("A", &format!("get: \"/{}\"", "x".repeat(2000))), "the limit is 1024"),
    ] {
        let faults = routes(&rules).expect_err(&rules);
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains(what)), "{rules}: {texts:?}");
    }
}

#[test]
fn the_order_of_declaration_does_not_matter() {
    let one = method("A", "get: \"/v1/{name=**}\"")
        + &method("B", "get: \"/v1/{name}\"")
        + &method("C", "get: \"/v1/x\"");
    let other = method("C", "get: \"/v1/x\"")
        + &method("B", "get: \"/v1/{name}\"")
        + &method("A", "get: \"/v1/{name=**}\"");
    for rules in [one, other] {
        let routes = routes(&rules).unwrap();
        assert_eq!(called(&routes, "GET", "/v1/x", ""), "C {}");
        assert_eq!(called(&routes, "GET", "/v1/y", ""), "B {\"name\":\"y\"}");
        assert_eq!(called(&routes, "GET", "/v1/y/z", ""), "A {\"name\":\"y/z\"}");
    }
}

#[test]
fn a_service_without_rules_has_none() {
    let compiled = compile(&[format!("{FOLDER}/vectors.proto")], &[FOLDER.to_owned()]).unwrap();
    let routes = Routes::of(&compiled.pool.get_service_by_name("test.json.Echo").unwrap()).unwrap();
    assert!(routes.all().is_empty() && matches!(routes.find("GET", "/"), Found::Nothing));
}

proptest! {
    #[test]
    fn any_template_is_read_or_refused(text in "/?[a-z{}=*/:.%]{0,30}") {
        if let Ok((template, _)) = Template::parse(&text) {
            prop_assert!(template.matches(&template.to_string().replace('*', "x")).is_some() || text.contains('%'), "{}", text);
        }
    }

    #[test]
    fn any_request_is_answered(path in "/(v1|shelves|books|files|any|[a-z%:*]{0,4}|/){0,8}", query in "[a-z=&%+.]{0,20}", body in "[{}a-z\":,]{0,10}") {
        for verb in ["GET", "POST", "PATCH"] {
            called(&LIBRARY, verb, &format!("{path}?{query}"), &body);
        }
    }
}
