//! What the machine does to a cloud: a port in use, a folder in use, a medium that is full or cannot be written, an
//! upload cut off, a damaged file. It is said plainly, nothing is corrupted, and it goes on once the cause is gone.

use crate::harness::{Cloud, Said, said, wait_for, wait_until};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const HOST: &str = "web.example.com.localhost";
const CONFLICT: i32 = 8;
const UNAVAILABLE: i32 = 10;

/// What is done to a file's bytes.
type Damage = fn(&mut Vec<u8>);

/// `tutti dev` in a folder, which is to end by itself.
fn dev(cloud: &Cloud, folder: &Path, api: SocketAddr, http: SocketAddr) -> Said {
    let mut command = Command::new("timeout");
    command.arg("20").arg(crate::harness::binary());
    command.env_clear().envs(cloud.command().get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.args(["dev", "--api", &api.to_string(), "--http", &http.to_string(), "--data-dir"]).arg(folder);
    command.current_dir(cloud.scratch());
    said(command.output().expect("tutti runs"))
}

fn free() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The complaint is one line with these words, and a hint.
fn plain(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let complaint: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(complaint.len(), 1, "{said:?}");
    assert!(said.err.contains("  hint: "), "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "no {word:?}: {said:?}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let cloud = Cloud::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = cloud.scratch().join("other");
    for (api, http, flag) in [(address, free(), "--api"), (free(), address, "--http")] {
        let said = dev(&cloud, &folder, api, http);
        plain(&said, UNAVAILABLE, &[&address.to_string(), "in use", flag]);
        assert!(!folder.exists(), "what never started left its folder");
    }
}

#[test]
fn a_folder_has_one_owner() {
    let cloud = Cloud::start_in_a_file(&[]);
    let said = dev(&cloud, &cloud.data_dir(), free(), free());
    plain(&said, CONFLICT, &["in use by process", &cloud.pid().to_string(), "--data-dir"]);
    cloud.ok(&["status"]);
}

/// A file system of its own, gone with this.
struct Mount(PathBuf);

impl Mount {
    /// `None`, said, where one may not mount.
    fn make(path: PathBuf, options: &[&str]) -> Option<Mount> {
        std::fs::create_dir_all(&path).unwrap();
        let made = Command::new("mount").args(options).arg(&path).output();
        if made.as_ref().is_ok_and(|made| made.status.success()) {
            return Some(Mount(path));
        }
        eprintln!("SKIPPED: this test needs to mount a file system, and may not here: {made:?}");
        None
    }

    /// The kernel lets go of a dead process's files a moment after it can be waited for; until then it refuses.
    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        wait_for("the medium is remounted", || {
            let mount = Command::new("mount").args(["-o", &option]).arg(&self.0).output();
            mount.unwrap().status.success()
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_medium_that_cannot_be_written_is_said_at_the_start() {
    let mut cloud = Cloud::start_in_a_file(&[]);
    let folder = cloud.scratch().join("disk");
    let Some(mount) = Mount::make(folder.clone(), &["-t", "tmpfs", "-o", "size=32m", "none"]) else { return };
    // Before the first start, and after one.
    mount.remount("ro");
    let said = dev(&cloud, &folder.join("data"), free(), free());
    plain(&said, UNAVAILABLE, &["disk/data", "Read-only file system", "--data-dir"]);
    mount.remount("rw");
    cloud.stop();
    cloud.move_to(&folder.join("data"));
    cloud.start_again(&[]);
    cloud.stop();
    mount.remount("ro");
    let said = dev(&cloud, &folder.join("data"), free(), free());
    plain(&said, UNAVAILABLE, &["disk/data", "ead-only", "--data-dir"]);
    mount.remount("rw");
    cloud.start_again(&[]);
    cloud.ok(&["status"]);
    cloud.stop();
}

#[test]
fn a_full_disk_refuses_writes_and_serves_on() {
    let mut cloud = Cloud::start_in_a_file(&[]);
    let folder = cloud.scratch().join("disk");
    let Some(_mount) = Mount::make(folder.clone(), &["-t", "tmpfs", "-o", "size=32m", "none"]) else {
        return;
    };
    cloud.stop();
    cloud.move_to(&folder.join("data"));
    cloud.start_again(&[]);
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);

    let ballast = folder.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let large = cloud.scratch().join("large");
    std::fs::create_dir_all(&large).unwrap();
    std::fs::write(large.join("tutti.toml"), "[service]\nisolate = \"process\"\nrun = [\"./run\"]\n")
        .unwrap();
    std::fs::write(large.join("run"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::set_permissions(large.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let push = ["push", large.to_str().unwrap(), "example.com:web@1.1"];
    let said = cloud.tutti(&push);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.err.contains("space") || said.err.contains("full"), "{said:?}");
    assert_eq!(said.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said:?}");
    // Writes of the store: until none fits the pages it already has.
    let mut refusal = None;
    for number in 0..2000 {
        let said = cloud.tutti(&["domain", "create", &format!("d{number}.example.org")]);
        if said.code != 0 {
            refusal = Some(said);
            break;
        }
    }
    let refusal = refusal.expect("a full disk takes no write for ever");
    assert_eq!(refusal.code, UNAVAILABLE, "{refusal:?}");
    assert!(refusal.err.contains("space") || refusal.err.contains("full"), "{refusal:?}");
    assert_eq!(cloud.get(HOST, "/").status, 200, "what serves goes on serving");
    cloud.ok(&["status"]);

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    wait_until("it takes writes again", || {
        let said = cloud.tutti(&["domain", "create", "after.example.org"]);
        if said.code == 0 { Ok(()) } else { Err(format!("{said:?}")) }
    });
    cloud.ok(&push);
    cloud.push_wasm("example.com:web@1.2", &[("VERSION", "1.2")]);
    cloud.ok(&["deploy", "example.com:web@1.2", "100%"]);
    assert_eq!(cloud.get(HOST, "/").header("tutti-version"), Some("1.2"));
    // Nothing is corrupted.
    cloud.kill();
    cloud.start_again(&[]);
    assert_eq!(cloud.get(HOST, "/").header("tutti-version"), Some("1.2"));
    cloud.stop();
}

#[test]
fn a_push_cut_off_half_way_leaves_nothing() {
    let cloud = Cloud::start();
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    let blobs = || files(&cloud.data_dir().join("blobs"));
    let before = blobs();
    let begin = format!(
        "POST /v2/example.com/web/blobs/uploads/ HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n",
        cloud.token()
    );
    let answer = crate::harness::request(cloud.api, &begin);
    assert_eq!(answer.status, 202, "{answer:?}");
    let place = answer.header("location").unwrap();
    let place = place.strip_prefix(&format!("http://{}", cloud.api)).unwrap_or(place).to_owned();
    let mut upload = TcpStream::connect(cloud.api).unwrap();
    let head = format!(
        "PUT {place}?digest=sha256:{} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n",
        "0".repeat(64),
        cloud.token()
    );
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(&[7; 300_000]).unwrap();
    upload.shutdown(std::net::Shutdown::Write).unwrap();
    upload.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    // Whether it still answers is its own affair.
    let _ = upload.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains(" 201 "), "{}", String::from_utf8_lossy(&rest));
    drop(upload);
    wait_until("what was begun is no blob", || {
        let now: Vec<PathBuf> =
            blobs().into_iter().filter(|path| !path.to_string_lossy().contains("/incoming/")).collect();
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    cloud.push_wasm("example.com:web@1.1", &[("VERSION", "1.1")]);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    assert_eq!(cloud.get(HOST, "/").header("tutti-version"), Some("1.1"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn a_damaged_store_or_one_of_a_newer_release_is_said_and_left_alone() {
    let mut cloud = Cloud::start_in_a_file(&[]);
    cloud.ok(&["domain", "create", "kept.example.org"]);
    cloud.stop();
    let file = cloud.data_dir().join("store.db");
    let whole = std::fs::read(&file).unwrap();
    let release: Damage = |bytes| bytes[60..64].copy_from_slice(&999u32.to_be_bytes());
    let damage: [(&str, Damage, &[&str]); 3] = [
        ("not a database", |bytes| bytes[..100].fill(b'x'), &["store.db"]),
        ("half of it", |bytes| bytes.truncate(bytes.len() / 2 / 4096 * 4096), &["store.db"]),
        ("a newer release", release, &["store.db", "999", "release"]),
    ];
    for (what, damage, words) in damage {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let said = dev(&cloud, &cloud.data_dir(), free(), free());
        assert_ne!(said.code, 0, "{what}: {said:?}");
        assert_ne!(said.code, 124, "{what}: it goes on: {said:?}");
        assert!(said.err.starts_with("error: "), "{what}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{what}, {word}: {said:?}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}: it was changed");
    }
    std::fs::write(&file, &whole).unwrap();
    cloud.start_again(&[]);
    cloud.get_json("/v1/domains/kept.example.org");
}
