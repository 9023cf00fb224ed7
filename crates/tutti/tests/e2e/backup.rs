//! `tutti backup` while a cloud is written to, and `tutti restore` with the recovery key alone.

use crate::harness::Cloud;
use std::os::unix::fs::PermissionsExt as _;

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
