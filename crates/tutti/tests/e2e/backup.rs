//! `tutti backup` while a cloud is written to, and `tutti restore` with the recovery key alone.

use crate::engine::Engine;
use crate::harness::{Cloud, request, said, wait_until};
use crate::traffic::push_wasm;
use serde_json::Value;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Exit code of what is there already.
const ALREADY_EXISTS: i32 = 7;
/// Exit code of what cannot be had now.
const UNAVAILABLE: i32 = 10;

#[test]
fn a_cloud_comes_back_with_a_backup_and_the_recovery_key() {
    let mut cloud = Cloud::start_in_a_file(&[]);
    let scratch = cloud.scratch();
    let place = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let (file, typed, key, data) = (place("backup"), place("typed"), place("new.key"), place("restored"));
    let old = cloud.data_dir().to_str().unwrap().to_owned();
    cloud.stop();
    let shown = cloud.ok(&["store", "recovery-key", "--data-dir", &old]);
    std::fs::write(&typed, shown).unwrap();
    cloud.start_again(&[]);
    cloud.ok(&["domain", "create", "before.example"]);
    let (value, wrong) = (place("value"), place("wrong.key"));
    std::fs::write(&value, "hunter2").unwrap();
    cloud.ok(&["secret", "set", "before.example:password", "--file", &value]);
    std::fs::write(&wrong, "5".repeat(64)).unwrap();
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = cloud.tutti(&["backup", &file, "--data-dir", &old, "--key", &wrong]);
    assert_eq!(refused.code, UNAVAILABLE, "{}", refused.err);
    assert!(!std::path::Path::new(&file).exists(), "a backup under another key opens nothing");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..10)
                .for_each(|index| drop(cloud.ok(&["domain", "create", &format!("during{index}.example")])));
        });
        cloud.ok(&["backup", &file, "--data-dir", &old]);
        writer.join().unwrap();
    });
    let refused = cloud.tutti(&["backup", &file, "--data-dir", &old]);
    assert_eq!(refused.code, ALREADY_EXISTS, "{}", refused.err);
    cloud.stop();
    let onto = |data: &str| {
        cloud.tutti(&["restore", &file, "--data-dir", data, "--key", &key, "--recovery-key-file", &typed])
    };
    let refused = onto(&old);
    assert_eq!(refused.code, ALREADY_EXISTS, "{}", refused.err);
    let restored = onto(&data);
    assert_eq!(restored.code, 0, "{}", restored.err);
    assert!(std::path::Path::new(&key).exists());
    assert_eq!(onto(&data).code, ALREADY_EXISTS);
    cloud.start_again(&[("TUTTI_STORE", &format!("sqlite:{data}/store.db")), ("TUTTI_KEY", &key)]);
    let domains = cloud.ok(&["domain", "list"]);
    assert!(domains.contains("before.example"), "{domains}");
}

const WEB: &str = "web.example.com.localhost";

/// Everything that is to be as it was.
fn state(cloud: &Cloud) -> Vec<Value> {
    let names = |kind: &str| {
        let all = cloud.items(kind).into_iter();
        // What a restored cloud makes by itself, and what was made while the backup was taken, is told apart by name.
        let named = all.filter(|it| !it["name"].as_str().unwrap().contains("during"));
        Value::Array(named.map(|it| Value::Array(vec![it["name"].clone(), it["spec"].clone()])).collect())
    };
    let service = cloud.get_json("/v1/services/example.com:web");
    let split = service["status"]["split"].clone();
    assert!(split.to_string().contains("1.1"), "{service}");
    vec![names("users"), names("domains"), names("versions"), names("routes"), split]
}

/// Asks a hundred times: each must be answered, with the secret that it was given, and the newer version has its share.
fn answers(cloud: &Cloud) -> Result<(), String> {
    let mut new = 0;
    for _ in 0..100 {
        let answer = cloud.get(WEB, "/");
        let version = answer.header("tutti-version").unwrap_or_default();
        if answer.status != 200 || !answer.body.contains("hunter2") {
            return Err(format!("{answer:?}"));
        }
        new += usize::from(version.ends_with("1.1"));
    }
    // Others ask beside, and each takes the next turn.
    if (20..=40).contains(&new) { Ok(()) } else { Err(format!("{new} of 100 had the newer version")) }
}

#[test]
fn under_load_and_wiped_whole_a_cloud_comes_back_on_another_engine_with_its_artifacts() {
    let mut cloud = Cloud::start();
    let scratch = cloud.scratch();
    let place = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let (file, typed, key, value) = (place("backup"), place("typed"), place("new.key"), place("value"));
    let old = cloud.data_dir();
    let from = cloud.store();
    let of = |words: &[&'static str]| {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["--data-dir".to_owned(), old.display().to_string()]);
        all.extend(from.iter().flat_map(|store| ["--store".to_owned(), store.clone()]));
        all
    };
    let run = |words: &[String]| cloud_words(&cloud, words);
    std::fs::write(&value, "hunter2").unwrap();
    let secret = cloud.json(&["user", "create", "ada"])["secret"].as_str().unwrap().to_owned();
    cloud.ok(&["secret", "set", "example.com:api-key", "--file", &value]);
    // A component gives its `VERSION` back.
    push_wasm(&cloud, "example.com:web@1.0", "secrets = { VERSION = \"api-key\" }");
    push_wasm(&cloud, "example.com:web@1.1", "secrets = { VERSION = \"api-key\" }");
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    cloud.ok(&["deploy", "example.com:web@1.1", "30%"]);
    cloud.ok(&["route", "create", "shop.example.com", "example.com:web"]);
    let (before, admin) = (state(&cloud), cloud.token());
    answers(&cloud).unwrap();
    if from.is_some() {
        // A store in a file is its cloud's alone: there the key is made while that does not run.
        std::fs::write(&typed, run(&of(&["store", "recovery-key"]))).unwrap();
    } else {
        cloud.stop();
        std::fs::write(&typed, cloud_words(&cloud, &of(&["store", "recovery-key"]))).unwrap();
        cloud.start_again(&[]);
    }

    // Written to and asked all the while.
    let done = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                answers(&cloud).unwrap();
                asked += 100;
            }
            asked
        });
        let writing = scope.spawn(|| {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                cloud.ok(&["domain", "create", &format!("during{written}.example")]);
                written += 1;
            }
            written
        });
        let mut words = of(&["backup", "--artifacts", "-o", "json"]);
        words.push(file.clone());
        let told: Value = serde_json::from_str(&cloud_words(&cloud, &words)).unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0 && writing.join().unwrap() > 0);
        told
    });
    let artifacts = &told["artifacts"];
    assert_eq!(
        (&artifacts["included"], &artifacts["missing"]),
        (&true.into(), &serde_json::json!([])),
        "{told}"
    );
    // Two versions of the same component, whose manifests may be the same as well.
    assert!(artifacts["blobs"].as_u64() >= Some(3) && artifacts["bytes"].as_u64() > Some(10_000), "{told}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"hunter2"));

    // All of it goes: state, key, artifacts, and what agents keep.
    cloud.stop();
    std::fs::remove_dir_all(&old).unwrap();
    std::fs::remove_dir_all(scratch.parent().unwrap().join("config")).unwrap();
    let target = Engine::another();
    let data = PathBuf::from(place("restored"));
    let store = target.address().unwrap_or_else(|| format!("sqlite:{}/store.db", data.display()));
    let restore = |more: &[&str]| {
        let mut command = cloud.command();
        command.args(["restore", &file, "--data-dir"]).arg(&data).args(["--store", &store, "--key", &key]);
        said(command.args(["--recovery-key-file", &typed]).args(more).output().unwrap())
    };
    let checked = restore(&["--check"]);
    assert!(checked.code == 0 && checked.out.contains("with artifacts: "), "{checked:?}");
    assert!(!data.join("blobs").exists(), "it was only looked at");
    let restored = restore(&[]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(restored.out.contains("all its artifacts are there"), "{restored:?}");
    let refused = restore(&[]);
    assert_eq!(refused.code, ALREADY_EXISTS, "{refused:?}");

    cloud.move_to(&data);
    cloud.start_again(&[("TUTTI_STORE", &store), ("TUTTI_KEY", &key)]);
    wait_until("both versions answer as before", || answers(&cloud));
    assert_eq!(state(&cloud), before);
    // Tokens of before are tokens: the admin's, and the user's, who is still nobody's.
    for (token, user) in [(&admin, Value::Null), (&secret, "ada".into())] {
        let text = format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        let who: Value = serde_json::from_str(&request(cloud.api, &text).body).unwrap();
        assert_eq!(who.get("user").cloned().unwrap_or_default(), user, "{who}");
    }
}

/// Runs a command that must succeed, and gives its output.
fn cloud_words(cloud: &Cloud, words: &[String]) -> String {
    cloud.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_restore_says_which_artifacts_are_not_there() {
    let mut cloud = Cloud::start_in_a_file(&[]);
    let scratch = cloud.scratch();
    let place = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let (file, data, old) = (place("backup"), place("restored"), cloud.data_dir());
    let old = old.to_str().unwrap();
    cloud.push_wasm("example.com:web@1.0", &[]);
    let said = cloud.ok(&["backup", &file, "--data-dir", old]);
    assert!(said.contains("without the 1 artifacts that it refers to"), "{said}");
    cloud.stop();
    // The node has a key of its own beside.
    let keys = std::fs::read_dir(scratch.parent().unwrap().join("config/tutti/keys")).unwrap();
    let mut keys = keys.flatten().map(|key| key.path().display().to_string());
    let opens = |key: &String| cloud.tutti(&["restore", "--check", &file, "--key", key]).code == 0;
    let key = keys.find(opens).unwrap();
    let onto = |data: &str| cloud.tutti(&["restore", &file, "--data-dir", data, "--key", &key]);
    let restored = onto(&data);
    assert!(
        restored.code == 0 && restored.out.contains("1 artifacts are not where --blobs says"),
        "{restored:?}"
    );
    assert!(restored.out.contains("example.com:web@1.0  sha256:"), "{restored:?}");
    // With the folder copied, as the guide says, nothing is missing.
    let other = place("other");
    std::fs::create_dir_all(&other).unwrap();
    copy(&Path::new(old).join("blobs"), &Path::new(&other).join("blobs"));
    let restored = onto(&other);
    assert!(restored.out.contains("all its artifacts are there"), "{restored:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}
