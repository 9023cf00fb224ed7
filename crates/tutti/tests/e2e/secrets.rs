//! Secrets by the real binary: given to processes and components, seen nowhere else, exchanged, deleted; and what goes on
//! without the key they are sealed under.

use crate::{
    harness::{Answer, Cloud, Said, binary, said, signal, wait_for, wait_until},
    traffic::push_wasm,
};
use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

const SECRET: &str = "example.com:api-key";
const WEB: &str = "web.example.com.localhost";
const WASM: &str = "hello.example.com.localhost";
/// Values that nothing else has in it, in two parts so that this test's own binary has them nowhere in one piece.
const OLD: [&str; 2] = ["correct-horse-", "battery-staple-4711"];
const NEW: [&str; 2] = ["swordfish-of-", "another-day-0815"];
/// Exit codes by kind.
const FORBIDDEN: i32 = 5;
const NOT_FOUND: i32 = 6;
const CONFLICT: i32 = 8;
const UNAVAILABLE: i32 = 10;

/// Answers with what it has in its environment, and writes nothing.
const PROGRAM: &str = r#"
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ.get("API_KEY", "no key").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Pushes the program above, with these lines of `[service]`.
fn push_process(cloud: &Cloud, version: &str, lines: &str) {
    let folder = cloud.scratch().join(version.replace(['@', ':'], "-"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("answer.py"), PROGRAM).unwrap();
    let manifest = format!(
        "[service]\nisolate = \"process\"\nrun = [\"python3\", \"-u\", \"answer.py\"]\n\
         health = {{ http = \"/\" }}\nenv = {{ MARK = \"{}\" }}\n{lines}\n",
        cloud.mark()
    );
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.ok(&["push", folder.to_str().unwrap(), version]);
}

/// `tutti secret set` with the value on standard input, as `printf %s VALUE |` does it.
fn try_set(cloud: &Cloud, value: &str) -> Said {
    let mut command = cloud.command();
    command.args(["secret", "set", SECRET]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("tutti runs");
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

fn set(cloud: &Cloud, value: &str) {
    let said = try_set(cloud, value);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.out.contains(value), "{said:?}");
}

/// A cloud in which a process and a component have the secret of this value.
fn both(cloud: &Cloud, value: &str) {
    set(cloud, value);
    push_process(cloud, "example.com:web@1.0", "secrets = { API_KEY = \"api-key\" }");
    push_wasm(cloud, "example.com:hello@1.0", "secrets = { VERSION = \"api-key\" }");
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    cloud.ok(&["deploy", "example.com:hello@1.0", "100%"]);
    assert_eq!(cloud.get(WEB, "/").body, value);
    assert!(greets(&cloud.get(WASM, "/"), value));
}

/// Whether the component answers with this value.
fn greets(answer: &Answer, value: &str) -> bool {
    answer.status == 200 && answer.body.trim_end() == format!("Hello from wasm, version {value}")
}

/// Waits until the processes that serve have exactly these values.
fn wait_for_values(cloud: &Cloud, values: &[&str]) {
    let wanted: BTreeSet<String> = values.iter().map(|value| (*value).to_owned()).collect();
    wait_until("the processes have these values", || {
        let seen: BTreeSet<String> = (0..20).map(|_| cloud.get(WEB, "/").body).collect();
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// The configuration folder's file with control's key.
fn key_file(cloud: &Cloud) -> PathBuf {
    let folder = cloud.scratch().parent().unwrap().join("config/tutti/keys");
    let of_control = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".key") && !name.ends_with(".node.key")
    };
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(of_control);
    let file = files.next().expect("a key");
    assert_eq!(files.next(), None, "one data folder has one key");
    file
}

/// Every file below a folder that has one of these in it.
fn files_with(folder: &Path, values: &[String]) -> Vec<PathBuf> {
    let (mut found, mut folders, mut read) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                // A file that goes while this looks has gone.
                let Ok(bytes) = std::fs::read(entry.path()) else { continue };
                read += 1;
                let has = |value: &String| bytes.windows(value.len()).any(|part| part == value.as_bytes());
                if values.iter().any(has) {
                    found.push(entry.path());
                }
            }
        }
    }
    assert!(read > 10, "{read} files are no data folder");
    found
}

/// Processes that show this value to others: by their command line, or by being `tutti` with it in the environment.
fn processes_with(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |what: &str| {
            String::from_utf8_lossy(&std::fs::read(entry.path().join(what)).unwrap_or_default()).into_owned()
        };
        let line = read("cmdline");
        let is_tutti = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == binary());
        if line.contains(value) || is_tutti && read("environ").contains(value) {
            found.push(line.replace('\0', " "));
        }
    }
    found
}

#[test]
fn a_secret_reaches_those_that_name_it_and_is_seen_nowhere_else() {
    let mut cloud = Cloud::start();
    let (old, new) = (OLD.concat(), NEW.concat());
    both(&cloud, &old);

    // What runs keeps its value; what starts later has the new one, which comes from a file here.
    let file = cloud.scratch().join("value");
    std::fs::write(&file, format!("{new}\n")).unwrap();
    let said = cloud.ok(&["secret", "set", SECRET, "--file", file.to_str().unwrap()]);
    assert!(said.contains(SECRET) && !said.contains(&new), "{said}");
    std::fs::remove_file(&file).unwrap();
    wait_for_values(&cloud, &[&old]);
    cloud.ok(&["scale", "example.com:web", "2"]);
    wait_for_values(&cloud, &[&old, &new]);

    let programs = cloud.programs();
    cloud.kill();
    cloud.start_again(&[]);
    wait_for_values(&cloud, &[&old, &new]);
    assert_eq!(cloud.programs(), programs, "they are other processes");
    wait_for("the component starts anew", || greets(&cloud.get(WASM, "/"), &new));

    let log = cloud.log();
    for value in [&old, &new] {
        assert_eq!(processes_with(value), Vec::<String>::new());
        assert!(!log.contains(value.as_str()), "{log}");
        let shapes = [value.clone(), value.bytes().map(|byte| format!("{byte:02x}")).collect()];
        assert_eq!(files_with(&cloud.data_dir(), &shapes), Vec::<PathBuf>::new());
    }
    // That a node was given it is noted, with what and for whom.
    let node = cloud.json(&["node", "list"])[0]["name"].as_str().unwrap().to_owned();
    for instance in cloud.items("instances") {
        let name = instance["name"].as_str().unwrap();
        let noted = |line: &&str| {
            ["tutti::audit", "read_instance_secrets", name, &node, SECRET]
                .iter()
                .all(|word| line.contains(word))
        };
        assert!(log.lines().any(|line| noted(&line)), "nothing of {name}:\n{log}");
    }
    // The same look does find what is there.
    assert!(!files_with(&cloud.data_dir(), &["api-key".to_owned()]).is_empty());
    cloud.stop();
    for value in [old, new] {
        assert_eq!(files_with(&cloud.data_dir(), &[value]), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_secret_that_is_missing_or_needed_is_refused_with_the_command_that_helps() {
    let cloud = Cloud::start();
    push_process(&cloud, "example.com:web@1.0", "");
    push_process(&cloud, "example.com:web@1.1", "secrets = { API_KEY = \"api-key\" }");
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let deployments = cloud.items("deployments");
    let refused = cloud.tutti(&["deploy", "example.com:web@1.1", "100%"]);
    assert_eq!(refused.code, CONFLICT, "{refused:?}");
    assert!(refused.err.contains(&format!("tutti secret set {SECRET} --file FILE")), "{refused:?}");
    assert_eq!(cloud.items("deployments"), deployments);
    assert_eq!(cloud.get(WEB, "/").body, "no key");

    let value = OLD.concat();
    set(&cloud, &value);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    wait_for_values(&cloud, &[&value]);
    let delete = || cloud.tutti(&["secret", "delete", SECRET]);
    let refused = delete();
    assert_eq!(refused.code, CONFLICT, "{refused:?}");
    assert!(refused.err.contains("example.com:web@1.1"), "{refused:?}");
    assert_eq!(cloud.items("secrets").len(), 1);

    // A rollback would need it still; after one more deployment nothing does.
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let refused = delete();
    assert_eq!(refused.code, CONFLICT, "{refused:?}");
    assert!(refused.err.contains("rollback"), "{refused:?}");
    push_process(&cloud, "example.com:web@1.2", "");
    cloud.ok(&["deploy", "example.com:web@1.2", "100%"]);
    assert_eq!(delete().code, 0);
    assert_eq!(cloud.tutti(&["secret", "show", SECRET]).code, NOT_FOUND);
}

#[test]
fn a_viewer_sees_names_and_no_values() {
    let cloud = Cloud::start();
    let value = OLD.concat();
    set(&cloud, &value);
    let made = cloud.json(&["token", "create", "looks", "--role", "viewer", "--domain", "example.com"]);
    let token = made["secret"].as_str().unwrap();
    let as_viewer = |arguments: &[&str]| {
        said(cloud.command().env("TUTTI_TOKEN", token).args(arguments).output().unwrap())
    };
    for arguments in [
        &["secret", "list"][..],
        &["secret", "show", SECRET],
        &["secret", "list", "-o", "json"],
        &["secret", "show", SECRET, "-o", "json"],
    ] {
        for said in [as_viewer(arguments), cloud.tutti(arguments)] {
            assert_eq!(said.code, 0, "{arguments:?} {said:?}");
            assert!(said.out.contains(SECRET), "{arguments:?} {said:?}");
            assert!(!said.out.contains(&value) && !said.out.contains("tutti1."), "{arguments:?} {said:?}");
        }
    }
    let file = cloud.scratch().join("value");
    std::fs::write(&file, NEW.concat()).unwrap();
    let said = as_viewer(&["secret", "set", SECRET, "--file", file.to_str().unwrap()]);
    assert_eq!(said.code, FORBIDDEN, "{said:?}");
    assert_eq!(as_viewer(&["secret", "delete", SECRET]).code, FORBIDDEN);
    assert_eq!(cloud.json(&["secret", "show", SECRET])["generation"], 1);
}

/// With a key that does not open what is stored: what runs serves on, and what needs the key says so.
fn locked_out(cloud: &Cloud, value: &str, key: &Path, workers: &str) {
    wait_for_values(cloud, &[value]);
    wait_for("the component starts with what its node kept", || greets(&cloud.get(WASM, "/"), value));
    let said = try_set(cloud, &NEW.concat());
    assert_eq!(said.code, UNAVAILABLE, "{said:?}");
    let place = key.to_str().unwrap();
    assert!(said.err.contains(place) && said.err.contains("--key"), "{said:?}");
    assert!(cloud.log().contains("secrets can be neither set nor given"), "{}", cloud.log());
    let said = cloud.tutti(&["deploy", "example.com:web@1.0", "100%"]);
    assert!(said.code == UNAVAILABLE && said.err.contains(place), "{said:?}");

    cloud.ok(&["scale", "example.com:web", workers]);
    wait_until("it is explained", || {
        let text = cloud.ok(&["explain", "example.com:web"]);
        if text.contains("has no secrets yet") && text.contains(place) { Ok(()) } else { Err(text) }
    });
    wait_for_values(cloud, &[value]);
}

fn ready(cloud: &Cloud) -> usize {
    let of_web = |instance: &&serde_json::Value| instance["spec"]["version"] == "example.com:web@1.0";
    let instances = cloud.items("instances");
    instances.iter().filter(of_web).filter(|instance| instance["status"]["state"] == "ready").count()
}

#[test]
fn without_the_key_what_runs_serves_and_the_key_put_back_is_enough() {
    let mut cloud = Cloud::start();
    let value = OLD.concat();
    both(&cloud, &value);
    let (key, away) = (key_file(&cloud), cloud.scratch().join("away.key"));
    let programs = cloud.programs();

    cloud.kill();
    std::fs::rename(&key, &away).unwrap();
    cloud.start_again(&[]);
    assert!(cloud.is_ready(), "{}", cloud.log());
    assert_eq!(cloud.programs(), programs);
    locked_out(&cloud, &value, &key, "2");
    assert!(!key.exists(), "another key was made while secrets need this one");
    // One that ends starts again with what its node kept.
    signal(programs[0], "KILL");
    wait_for("it starts again", || {
        let now = cloud.programs();
        now.len() == 1 && now != programs && ready(&cloud) == 1
    });
    wait_for_values(&cloud, &[&value]);
    std::fs::rename(&away, &key).unwrap();
    wait_for("the one that waited starts", || ready(&cloud) == 2);
    wait_for_values(&cloud, &[&value]);
    set(&cloud, &value);

    // The same with another key in its place.
    cloud.kill();
    std::fs::rename(&key, &away).unwrap();
    std::fs::copy(&away, &key).unwrap();
    std::fs::write(&key, "0f".repeat(32)).unwrap();
    cloud.start_again(&[]);
    assert!(cloud.is_ready(), "{}", cloud.log());
    locked_out(&cloud, &value, &key, "3");
    assert!(try_set(&cloud, &value).err.contains("sealed under the key"));
    std::fs::rename(&away, &key).unwrap();
    wait_for("the one that waited starts", || ready(&cloud) == 3);
    set(&cloud, &NEW.concat());
}

#[test]
fn a_command_gives_the_key_and_a_moved_folder_says_where_it_was() {
    let mut cloud = Cloud::start();
    let (value, key) = (OLD.concat(), key_file(&cloud));
    both(&cloud, &value);
    cloud.stop();
    // The file of the default goes by the folder's path.
    let moved = cloud.scratch().join("moved");
    std::fs::rename(cloud.data_dir(), &moved).unwrap();
    cloud.move_to(&moved);
    cloud.start_again(&[]);
    let said = try_set(&cloud, &value);
    assert_eq!(said.code, UNAVAILABLE, "{said:?}");
    assert!(said.err.contains("moved") && said.err.contains("path of the data folder"), "{said:?}");
    cloud.stop();

    let command = format!("exec:cat {}", key.display());
    cloud.start_again(&[("TUTTI_KEY", &command)]);
    wait_for("the component has it", || greets(&cloud.get(WASM, "/"), &value));
    wait_for_values(&cloud, &[&value]);
    set(&cloud, &NEW.concat());
    cloud.stop();
    cloud.start_again(&[("TUTTI_KEY", "exec:exit 3")]);
    assert!(cloud.is_ready(), "{}", cloud.log());
    let said = try_set(&cloud, &value);
    assert_eq!(said.code, UNAVAILABLE, "{said:?}");
    assert!(said.err.contains("exec:exit") && said.err.contains("exit status: 3"), "{said:?}");
}

#[test]
fn without_a_configuration_folder_it_starts_and_has_no_key() {
    let mut cloud = Cloud::start();
    let value = OLD.concat();
    both(&cloud, &value);
    cloud.kill();
    cloud.start_again(&[("HOME", ""), ("XDG_CONFIG_HOME", "")]);
    assert!(cloud.is_ready(), "{}", cloud.log());
    wait_for_values(&cloud, &[&value]);
    let said = try_set(&cloud, &value);
    assert_eq!(said.code, UNAVAILABLE, "{said:?}");
    assert!(said.err.contains("there is no configuration folder") && said.err.contains("--key"), "{said:?}");
}
