use super::{File, files, name, write};
use crate::{api::Api, args::Language};
use std::{fs, path::Path};
use tutti_proto::wit;

const SHAPES: &str = include_str!("fixtures/shapes.proto");
const HELLO: &str = include_str!("fixtures/hello.proto");

fn made(language: Language, proto: &str, service: &str) -> Vec<File> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.proto");
    fs::write(&path, proto).unwrap();
    let api = Api::read(&path, &[]).unwrap();
    files(language, "hello-world", &api, api.service(Some(service)).unwrap()).unwrap()
}

/// What differs from project to project: WIT has goldens of its own.
fn golden(files: &[File]) -> String {
    let own = files.iter().filter(|file| !file.path.starts_with("wit/") && !file.path.starts_with("proto/"));
    own.map(|file| format!("==== {}\n{}", file.path, file.text)).collect()
}

#[test]
fn each_language_has_its_project() {
    for (language, title) in [(Language::Rust, "rust"), (Language::Python, "python")] {
        for (proto, service, of) in [(HELLO, "HelloWorld", "hello"), (SHAPES, "Shapes", "shapes")] {
            let text = golden(&made(language, proto, service));
            insta::with_settings!({ snapshot_suffix => format!("{title}_{of}"), omit_expression => true }, {
                insta::assert_snapshot!("project", text)
            });
        }
    }
}

#[test]
fn nothing_of_a_template_is_left() {
    for language in [Language::Rust, Language::Python] {
        for file in made(language, SHAPES, "Shapes") {
            for word in file.text.split(|char: char| char.is_whitespace() || char == '/') {
                let left = word.len() > 2 && word.starts_with('@') && word.ends_with('@');
                assert!(!left, "{word} in {}", file.path);
            }
        }
    }
}

#[test]
fn a_name_is_one_for_both_languages() {
    for good in ["hello", "hello-world", "a", "v2-api"] {
        assert_eq!(name(Path::new(good)).unwrap(), good);
        assert_eq!(name(&Path::new("/tmp/some where").join(good)).unwrap(), good);
    }
    for bad in ["", "..", "Hello", "1a", "a_b", "a-", "a--b", "fn", "import", "test", &"a".repeat(65)] {
        assert!(name(Path::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_folder_is_made_whole_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("hello");
    let files = made(Language::Rust, HELLO, "HelloWorld");
    write(&target, &files).unwrap();
    assert!(target.join("wit/deps/tutti-grpc/grpc.wit").is_file());
    assert!(write(&target, &files).unwrap_err().detail.ends_with("is there already"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("no/such/hello");
    assert!(write(&nowhere, &files).unwrap_err().detail.contains("cannot be made"));
}

#[test]
fn a_service_without_methods_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.proto");
    fs::write(&path, "syntax = \"proto3\"; package a.b; service S {}").unwrap();
    let api = Api::read(&path, &[]).unwrap();
    let said = files(Language::Rust, "x", &api, api.service(None).unwrap()).unwrap_err();
    assert_eq!(said.detail, "a.b.S has no methods: there is nothing to implement");
}

#[test]
fn the_samples_have_the_wit_of_their_proto() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    for sample in ["hello-wasm-grpc-rust", "hello-wasm-grpc-python"] {
        let folder = samples.join(sample);
        let api = Api::read(&folder.join("proto/hello.proto"), &[]).unwrap();
        for file in wit::generate(&api.schema, &api.docs(), api.service(None).unwrap()) {
            let there = fs::read_to_string(folder.join("wit").join(&file.path)).unwrap();
            assert_eq!(there, file.text, "{sample}: make it anew with tutti bindgen");
        }
    }
}
