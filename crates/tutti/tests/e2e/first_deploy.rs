//! Push, deploy, split, roll back: the walk that the README takes.

use crate::harness::Cloud;

#[test]
fn push_deploy_split_and_roll_back() {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:hello@1.0", &[("VERSION", "1.0")]);
    cloud.push_wasm("example.com:hello@1.1", &[("VERSION", "1.1")]);
    let host = "hello.example.com.localhost";
    assert_eq!(cloud.get(host, "/").status, 503, "nothing is deployed yet");

    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    let answer = cloud.get(host, "/");
    assert_eq!((answer.status, answer.header("tutti-version")), (200, Some("1.0")), "{answer:?}");
    assert!(answer.body.contains("1.0"), "{}", answer.body);

    cloud.ok(&["deploy", "example.com:hello@1.1", "50%"]);
    let mut newer = 0;
    for _ in 0..100 {
        let answer = cloud.get(host, "/");
        assert_eq!(answer.status, 200);
        newer += usize::from(answer.header("tutti-version") == Some("1.1"));
    }
    assert!((45..=55).contains(&newer), "{newer} of 100 went to 1.1");

    cloud.ok(&["rollback", "example.com:hello"]);
    for _ in 0..20 {
        assert_eq!(cloud.get(host, "/").header("tutti-version"), Some("1.0"));
    }

    let said = cloud.tutti(&["version", "delete", "example.com:hello@1.1"]);
    assert_eq!(said.code, 8, "a rollback of the rollback would need it: {}", said.err);
}
