//! Every `.proto` of `tests/protos` against its generated WIT, and the WIT against a parser.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "the helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use tutti_proto::compile::{Compiled, compile};
use tutti_proto::docs::Docs;
use tutti_proto::fault::Fault;
use tutti_proto::schema::Schema;
use tutti_proto::{stored, wit};

fn protos(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protos").join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder of protos");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    files
}

fn compiled(path: &Path) -> Result<Compiled, Vec<Fault>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protos");
    compile(&[path], &[root.as_path()])
}

/// Parses a generated folder as stock tools do and gives the world's name.
fn parse(files: &[wit::WitFile]) -> Result<String, String> {
    let mut resolve = wit_parser::Resolve::default();
    let mut main = None;
    for file in files.iter().rev() {
        main =
            Some(resolve.push_source(&file.path, &file.text).map_err(|error| resolve.render_error(&error))?);
    }
    let package = &resolve.packages[main.expect("a package")];
    let (name, world) = package.worlds.first().expect("a world");
    // What a tool does next: a component of this world must be possible.
    let mut module = wit_component::dummy_module(&resolve, *world, wit_parser::ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, *world, Default::default())
        .map_err(|error| format!("{error:#}"))?;
    let mut encoder =
        wit_component::ComponentEncoder::default().module(&module).map_err(|e| format!("{e:#}"))?;
    encoder.encode().map_err(|error| format!("{error:#}"))?;
    Ok(name.clone())
}

#[test]
fn each_proto_gives_its_wit() {
    for path in protos("") {
        let compiled = compiled(&path).unwrap_or_else(|faults| panic!("{faults:?}"));
        let schema =
            Schema::build(&compiled.pool, &compiled.files).unwrap_or_else(|faults| panic!("{faults:?}"));
        let docs = Docs::of(&compiled.pool);
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut text = String::new();
        for service in &schema.services {
            let files = wit::generate(&schema, &docs, service);
            let world = parse(&files).unwrap_or_else(|error| panic!("{stem}: {error}\n{}", files[0].text));
            assert_eq!(world, service.wit_world);
            text.push_str(&files[0].text);
        }
        insta::with_settings!({ snapshot_suffix => stem, omit_expression => true }, { insta::assert_snapshot!("wit", text) });
    }
}

#[test]
fn what_is_stored_gives_the_same_wit() {
    for path in protos("") {
        let compiled = compiled(&path).expect("compiles");
        let pool = stored::open(&compiled.set).unwrap_or_else(|fault| panic!("{path:?}: {fault}"));
        let schema = Schema::build(&compiled.pool, &compiled.files).expect("a schema");
        assert_eq!(Schema::build(&pool, &compiled.files).expect("a schema"), schema);
        for service in &schema.services {
            assert_eq!(
                Schema::of_service(&pool, &service.name).expect("a schema"),
                schema,
                "{}",
                service.name
            );
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for path in protos("refused") {
        let faults = match compiled(&path) {
            Ok(compiled) => Schema::build(&compiled.pool, &compiled.files).expect_err("is refused"),
            Err(faults) => faults,
        };
        let root = env!("CARGO_MANIFEST_DIR");
        let text: Vec<String> = faults.iter().map(|fault| fault.to_string().replace(root, "")).collect();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        insta::with_settings!({ snapshot_suffix => stem, omit_expression => true }, {
            insta::assert_snapshot!("refused", text.join("\n"))
        });
    }
}
