//! `tutti audit` tells who changed what, and never a secret.

use crate::{harness::Cloud, traffic::push_wasm};

#[test]
fn a_change_is_told_with_who_and_from_where_and_before_and_after() {
    let cloud = Cloud::start();
    push_wasm(&cloud, "example.com:hello@1.0", "");
    cloud.ok(&["scale", "example.com:hello", "2"]);
    cloud.ok(&["scale", "example.com:hello", "3"]);
    let text = cloud.ok(&["audit", "service/example.com:hello", "--since", "1h"]);
    assert!(text.contains("scale_service") && text.contains("admin"), "{text}");
    let records = cloud.json(&["audit", "service/example.com:hello", "--limit", "1"]);
    let newest = &records[0]["spec"];
    assert_eq!(newest["operation"], "scale_service", "{newest}");
    assert_eq!(newest["from"], "127.0.0.1", "{newest}");
    let change = &newest["changes"][0];
    assert_eq!(
        (&change["before"]["workers"], &change["after"]["workers"]),
        (&2.into(), &3.into()),
        "{change}"
    );
    assert_eq!(cloud.ok(&["audit", "--who", "nobody"]), "no changes\n");
}
