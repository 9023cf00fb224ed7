use super::*;
use std::os::unix::fs::symlink;

fn executable(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn application(folder: &Path) {
    fs::create_dir_all(folder.join("lib/deep")).unwrap();
    executable(&folder.join("run"), b"#!/bin/sh\n");
    fs::write(folder.join("lib/deep/b.txt"), "b").unwrap();
    fs::write(folder.join("lib/a.txt"), "a").unwrap();
    fs::write(folder.join("tutti.toml"), "[service]\nrun = \"./run\"\n").unwrap();
    symlink("lib/a.txt", folder.join("link")).unwrap();
    fs::create_dir_all(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/HEAD"), folder.display().to_string()).unwrap();
}

fn texts(faults: &[Problem]) -> String {
    faults.iter().map(|fault| format!("{} ({})\n", fault, fault.hint.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn the_same_content_has_the_same_digest_wherever_it_is() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let digest = |root: &Path| {
        application(&root.join("app"));
        let prepared = prepare(&root.join("app"), None).unwrap();
        Image::of(&prepared, &"1.0".parse().unwrap()).unwrap()
    };
    let first = digest(one.path());
    fs::create_dir_all(two.path().join("app")).unwrap();
    let second = digest(two.path());
    assert_eq!((first.digest, first.layer, &first.manifest), (second.digest, second.layer, &second.manifest));
    // And it is this one for ever, lest a new release push everything anew.
    insta::assert_snapshot!(String::from_utf8(first.manifest.to_vec()).unwrap());
}

#[test]
fn an_archive_has_no_times_and_no_owners_and_keeps_links() {
    let folder = tempfile::tempdir().unwrap();
    application(folder.path());
    let mut bytes = Vec::new();
    prepare(folder.path(), None).unwrap().content.write(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let link =
            entry.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
        names.push(format!("{}{link}", entry.path().unwrap().display()));
    }
    assert_eq!(
        names,
        ["lib", "lib/a.txt", "lib/deep", "lib/deep/b.txt", "link -> lib/a.txt", "run", "tutti.toml"]
    );
}

#[test]
fn links_that_lead_outside_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("app");
    application(&root);
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../etc", root.join("lib/up")).unwrap();
    // Each harmless by its text, and together a way out.
    symlink(".", root.join("here")).unwrap();
    symlink("../here/../secret", root.join("lib/roundabout")).unwrap();
    fs::write(folder.path().join("secret"), "s").unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let mut refused: Vec<String> =
        prepare(&root, None).unwrap_err().iter().map(ToString::to_string).collect();
    refused.sort();
    assert_eq!(refused.len(), 3, "{refused:?}");
    for (line, name) in refused.iter().zip(["absolute", "lib/roundabout", "lib/up"]) {
        assert!(line.contains(&format!("app/{name} is a link to")) && line.contains("outside"), "{line}");
    }
}

#[test]
fn a_core_module_is_refused_with_the_way_to_a_component() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello.wasm");
    fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
    let faults = prepare(&path, None).unwrap_err();
    assert!(faults[0].detail.ends_with("is a core wasm module, not a component"), "{}", faults[0]);
    assert!(faults[0].hint.as_deref().unwrap().contains("wasm32-wasip2"));
    fs::write(&path, b"\0asm\x0d\0\x01\0rest").unwrap();
    let prepared = prepare(&path, None).unwrap();
    assert_eq!((prepared.isolate, prepared.title.as_str()), (Isolate::Wasm, "hello.wasm"));
    assert_eq!(prepared.content.digest().unwrap().1, 12);
}

#[test]
fn a_program_alone_is_run_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    fs::write(&path, b"\x7fELF").unwrap();
    assert!(texts(&prepare(&path, None).unwrap_err()).contains("neither a wasm component nor executable"));
    executable(&path, b"\x7fELF");
    let prepared = prepare(&path, None).unwrap();
    assert_eq!(prepared.manifest.run, ["./server"]);
    assert_eq!(prepared.manifest.isolate, Some(Isolate::Process));
}

#[test]
fn every_fault_is_told_at_once_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), "x").unwrap();
    fs::write(folder.path().join("tutti.toml"), "[service]\nmemroy = \"1Mi\"\nconcurrency = 0\n").unwrap();
    symlink("/", folder.path().join("root")).unwrap();
    let told = texts(&prepare(folder.path(), None).unwrap_err());
    assert!(
        told.contains("tutti.toml: [service] has no key \"memroy\" (did you mean \"memory\"?)"),
        "{told}"
    );
    assert!(told.contains("tutti.toml: [service] concurrency: 0 is not from 1"), "{told}");
    assert!(told.contains("root is a link to /"), "{told}");
}

#[test]
fn a_command_must_be_there_and_executable() {
    let folder = tempfile::tempdir().unwrap();
    application(folder.path());
    let told = |run: &str| {
        fs::write(folder.path().join("tutti.toml"), format!("[service]\nrun = {run:?}\n")).unwrap();
        prepare(folder.path(), None).map(|_| String::new()).unwrap_or_else(|faults| texts(&faults))
    };
    assert_eq!(told("python3 main.py"), "");
    assert_eq!(told("./run --fast"), "");
    assert!(told("./bin/run").contains("did you mean \"./run\"?"));
    assert!(told("./lib/a.txt").contains("is not executable"));
    assert!(told("").contains("nothing says what to run in it"));
    fs::write(folder.path().join("tutti.toml"), "[service]\nisolate = \"wasm\"\n").unwrap();
    let told = texts(&prepare(folder.path(), None).unwrap_err());
    assert!(told.contains("its manifest is for a wasm component"), "{told}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    application(folder.path());
    let prepared = prepare(folder.path(), None).unwrap();
    fs::write(folder.path().join("lib/a.txt"), "longer").unwrap();
    let error = prepared.content.write(&mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("a.txt changed while it was read"), "{error}");
}
