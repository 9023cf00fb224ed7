use super::Api;
use std::{fs, path::Path};

const API: &str = "syntax = \"proto3\";\npackage com.example;\nimport \"shared/name.proto\";\n\
    import \"google/protobuf/empty.proto\";\nservice HelloWorld { rpc SayHello(Name) returns (google.protobuf.Empty); }\n\
    service Other { rpc SayHello(Name) returns (Name); }\n";
const SHARED: &str = "syntax = \"proto3\";\npackage com.example;\nmessage Name { string name = 1; }\n";

fn tree(api: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shared")).unwrap();
    fs::write(folder.path().join("api.proto"), api).unwrap();
    fs::write(folder.path().join("shared/name.proto"), SHARED).unwrap();
    folder
}

fn said(folder: &Path) -> Vec<(String, Option<String>)> {
    let faults = Api::read(&folder.join("api.proto"), &[]).unwrap_err();
    let place = format!("{}/", folder.display());
    faults.into_iter().map(|fault| (fault.detail.replace(&place, ""), fault.hint)).collect()
}

#[test]
fn a_service_is_chosen_by_name_where_there_are_several() {
    let folder = tree(API);
    let api = Api::read(&folder.path().join("api.proto"), &[]).unwrap();
    assert_eq!(api.service(Some("com.example.HelloWorld")).unwrap().name, "com.example.HelloWorld");
    assert_eq!(api.service(Some("Other")).unwrap().name, "com.example.Other");
    let several = api.service(None).unwrap_err();
    assert_eq!(several.hint.unwrap(), "say which with --service: com.example.HelloWorld, com.example.Other");
    let near = api.service(Some("com.example.HeloWorld")).unwrap_err();
    assert_eq!(near.hint.unwrap(), "did you mean com.example.HelloWorld?");
    let far = api.service(Some("org.else.Thing")).unwrap_err();
    assert_eq!(far.hint.unwrap(), "it declares com.example.HelloWorld, com.example.Other");
}

#[test]
fn faults_have_their_place() {
    let said = said(
        tree(&API.replace("rpc SayHello(Name) returns (Name)", "rpc SayHello(Nme) returns (Name)")).path(),
    );
    assert!(said[0].0.starts_with("api.proto:6:"), "{said:?}");
    assert!(said[0].0.contains("Nme"), "{said:?}");
}

#[test]
fn sources_are_those_that_no_compiler_brings() {
    let folder = tree(API);
    for paths in [vec![], vec![folder.path().to_owned()]] {
        let api = Api::read(&folder.path().join("api.proto"), &paths).unwrap();
        let sources = api.sources().unwrap();
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["api.proto", "shared/name.proto"]);
        assert_eq!(sources[0].text, API);
    }
}
