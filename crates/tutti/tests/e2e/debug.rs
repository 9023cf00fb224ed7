//! `tutti debug`: how control's loops fare, and a bundle that has all of a cloud but what is secret.

use crate::harness::{Cloud, wait_for};
use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// Stands in every place where something secret may be, each time with another end.
const MARKER: &str = "correct-horse-battery";

#[test]
fn the_loops_of_the_control_that_leads_are_told() {
    let cloud = Cloud::start();
    cloud.push_python("example.com:web@1.0", "", &[]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let told = cloud.json(&["debug", "reconcilers"]);
    assert_eq!(told["control"], told["leader"], "{told}");
    let zone = told["loops"].as_array().unwrap().iter().find(|one| one["name"] == "zone").unwrap().clone();
    assert!(zone["runs"].as_u64() > Some(0), "{told}");
    let text = cloud.ok(&["debug", "reconcilers"]);
    assert!(text.contains("leads since") && text.contains("global"), "{text}");
}

/// Every file below a folder, with its text.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(texts(&entry.path())),
            false => {
                let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
                found.push((entry.file_name().to_string_lossy().into_owned(), text));
            }
        }
    }
    found
}

#[test]
fn a_bundle_has_all_of_a_cloud_and_nothing_that_is_secret() {
    let cloud = Cloud::start();
    let value = cloud.scratch().join("value");
    std::fs::write(&value, format!("{MARKER}-secret")).unwrap();
    cloud.ok(&["secret", "set", "example.com:api-key", "--file", value.to_str().unwrap()]);
    let env = format!("{MARKER}-env");
    cloud.push_python("example.com:web@1.0", "secrets = { API_KEY = \"api-key\" }", &[("PASSWORD", &env)]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);

    // One that says its secret on its command line, writes it, and fails.
    let folder = cloud.scratch().join("fails");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("run"), format!("#!/bin/sh\necho {MARKER}-line $1\nexit 3\n")).unwrap();
    std::fs::set_permissions(folder.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let manifest =
        format!("[service]\nisolate = \"process\"\nrun = [\"./run\", \"--password={MARKER}-word\"]\n");
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.tutti(&["push", folder.to_str().unwrap(), "example.com:fails@1.0"]);
    let failed = cloud.tutti(&["deploy", "example.com:fails@1.0", "100%"]);
    assert!(
        failed.code != 0 && failed.err.contains(MARKER),
        "its last lines are shown to its owner: {failed:?}"
    );
    let made = cloud.json(&["token", "create", "ci", "--role", "admin"]);
    let token = made["secret"].as_str().unwrap().to_owned();

    let file = cloud.scratch().join("bundle.tar.gz");
    let said = cloud.json(&["debug", "bundle", file.to_str().unwrap()]);
    assert_eq!(said["missing"], serde_json::json!([]), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = cloud.tutti(&["debug", "bundle", file.to_str().unwrap()]);
    assert!(again.code != 0 && again.err.contains("is there already"), "{again:?}");

    let into = cloud.scratch().join("unpacked");
    std::fs::create_dir_all(&into).unwrap();
    let unpacked = Command::new("tar").arg("xzf").arg(&file).arg("-C").arg(&into).status().unwrap();
    assert!(unpacked.success());
    let texts = texts(&into);
    for part in
        ["status.json", "instances.json", "events.json", "audit.json", "reconcilers.json", "metrics.txt"]
    {
        let text = &texts.iter().find(|(name, _)| name == part).unwrap_or_else(|| panic!("no {part}")).1;
        assert!(text.len() > 50, "{part}: {text}");
    }
    let keys = std::fs::read_dir(cloud.scratch().parent().unwrap().join("config/tutti/keys")).unwrap();
    let keys: Vec<String> = keys
        .map(|key| std::fs::read_to_string(key.unwrap().path()).unwrap().trim().to_owned())
        .filter(|key| !key.is_empty())
        .collect();
    assert!(!keys.is_empty(), "the cloud has a key");
    let planted = [MARKER.to_owned(), token, cloud.token()].into_iter().chain(keys);
    for planted in planted {
        for (name, text) in &texts {
            assert!(!text.contains(&planted), "{name} has {planted}");
        }
    }
}

#[test]
fn a_bundle_of_a_cloud_that_does_not_answer_leaves_no_file() {
    let mut cloud = Cloud::start();
    let file = cloud.scratch().join("bundle.tar.gz");
    cloud.stop();
    let said = cloud.tutti(&["debug", "bundle", file.to_str().unwrap()]);
    assert!(said.code != 0 && said.err.contains("answers nothing"), "{said:?}");
    wait_for("the file is gone", || !file.exists());
}
