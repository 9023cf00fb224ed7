use super::*;
use std::os::unix::fs::PermissionsExt as _;
use tutti_model::ErrorCode;

fn hex_key(byte: u8) -> String {
    hex::encode([byte; KEY_BYTES])
}

fn write(path: &Path, text: &str, mode: u32) {
    // Removed first, since the mode is that of a new file.
    let _ = fs::remove_file(path);
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn sources_read_back_without_their_arguments() {
    assert_eq!("/etc/key".parse::<Source>().unwrap(), Source::File("/etc/key".into()));
    let command: Source = "exec:vault read --token hunter2".parse().unwrap();
    assert_eq!(command.to_string(), "exec:vault …");
    assert_eq!(format!("{command:?}"), "Source(exec:vault …)");
    for bad in ["", " ", "exec:", "exec: "] {
        assert!(bad.parse::<Source>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_key_is_made_once_and_for_its_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/one.key");
    let ring = Keyring::at(Source::File(path.clone()));
    let problem = ring.key().await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Unavailable);
    assert!(
        problem.detail.contains("one.key") && problem.hint.unwrap().contains("--key"),
        "{}",
        problem.detail
    );
    let ring = Keyring::at(Source::File(path.clone()));
    ring.make_if_missing().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let sealed = ring.seal("a", b"hunter2").await.unwrap();
    ring.make_if_missing().unwrap();
    let again = Keyring::at(Source::File(path.clone()));
    assert_eq!(again.open("secret a", "a", &sealed).await.unwrap().reveal().as_slice(), b"hunter2");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_others_can_open_or_that_is_no_key_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for (text, mode, why) in [
        (hex_key(1), 0o644, "others may open it"),
        (hex_key(1), 0o640, "others may open it"),
        ("hunter2".to_owned(), 0o600, "is not 64 hex digits"),
        (String::new(), 0o600, "is not 64 hex digits"),
        ("ab".repeat(40), 0o600, "is not 64 hex digits"),
        ("ab".repeat(10_000), 0o600, "is not 64 hex digits"),
    ] {
        write(&path, &text, mode);
        let problem = Keyring::at(Source::File(path.clone())).key().await.unwrap_err();
        assert!(problem.detail.contains(why), "{problem}");
        assert!(!problem.detail.contains("hunter2") && !problem.detail.contains("abab"), "{problem}");
    }
    let problem = Keyring::at(Source::File(folder.path().to_owned())).key().await.unwrap_err();
    assert!(problem.detail.contains("not a file"), "{problem}");
}

#[tokio::test]
async fn a_wrong_key_is_named_and_the_right_one_put_back_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    write(&path, &hex_key(1), 0o600);
    let sealed = Keyring::at(Source::File(path.clone())).seal("a", b"hunter2").await.unwrap();
    write(&path, &hex_key(2), 0o600);
    let ring = Keyring::at(Source::File(path.clone()));
    let problem = ring.open("secret a", "a", &sealed).await.unwrap_err();
    assert_eq!((problem.code, problem.object.as_deref()), (ErrorCode::Unavailable, Some("secret a")));
    let right = crate::key::sealed_under(&sealed).unwrap();
    assert!(problem.detail.starts_with("secret a cannot be read: it is sealed under the key "), "{problem}");
    assert!(problem.detail.contains(right) && problem.hint.unwrap().contains(right));
    write(&path, &hex_key(1), 0o600);
    assert_eq!(ring.open("secret a", "a", &sealed).await.unwrap().reveal().as_slice(), b"hunter2");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_missing_is_read_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let ring = Keyring::at(Source::File(path.clone()));
    ring.key().await.unwrap_err();
    write(&path, &hex_key(1), 0o600);
    // Not at once, so that many requests are not as many attempts.
    ring.key().await.unwrap_err();
    tokio::time::advance(RETRY).await;
    ring.key().await.unwrap();
}

#[tokio::test]
async fn a_command_gives_the_key() {
    let ring = |command: &str| Keyring::at(format!("exec:{command}").parse().unwrap());
    let key = ring(&format!("echo {}", hex_key(3))).key().await.unwrap();
    let bytes = Zeroizing::new([3; KEY_BYTES]);
    assert_eq!(key.id(), SealingKey::new(&bytes).unwrap().id());
    let problem = ring("exit 3").key().await.unwrap_err();
    assert!(problem.detail.contains("exec:exit") && problem.detail.contains("exit status: 3"), "{problem}");
    let problem = ring("echo hunter2").key().await.unwrap_err();
    assert!(problem.detail.contains("64 hex digits") && !problem.detail.contains("hunter2"), "{problem}");
    // More than is read ends the command.
    ring("yes").key().await.unwrap_err();
}

#[tokio::test]
async fn a_keyring_without_a_key_tells_why() {
    let ring = Keyring::without(Problem::unavailable("there is no folder for a key").hint("set HOME"));
    for problem in [ring.key().await.unwrap_err(), ring.make_if_missing().unwrap_err()] {
        assert_eq!(problem, Problem::unavailable("there is no folder for a key").hint("set HOME"));
    }
    let sealed = Keyring::of(SealingKey::new(&Zeroizing::new([1; KEY_BYTES])).unwrap()).seal("a", b"x").await;
    let problem = ring.open("secret a", "a", &sealed.unwrap()).await.unwrap_err();
    assert_eq!(problem.detail, "secret a cannot be read: there is no folder for a key");
}

#[tokio::test]
async fn advice_stands_behind_what_is_said_of_a_key_that_is_missing_or_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let ring = || Keyring::at(Source::File(path.clone())).advising("look under the bed");
    let advised = |problem: Problem| problem.hint.unwrap().ends_with("; look under the bed");
    assert!(advised(ring().key().await.unwrap_err()));
    write(&path, &hex_key(1), 0o600);
    let sealed = ring().seal("a", b"x").await.unwrap();
    write(&path, &hex_key(2), 0o600);
    assert!(advised(ring().open("secret a", "a", &sealed).await.unwrap_err()));
}
