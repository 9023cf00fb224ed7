use super::{plan, write};
use crate::api::Api;
use std::{fs, path::Path};
use tutti_proto::wit;

const API: &str = "syntax = \"proto3\";\npackage com.example;\n\
    service HelloWorld { rpc SayHello(HelloRequest) returns (HelloResponse); }\n\
    service Other { rpc SayHello(HelloRequest) returns (HelloResponse); }\n\
    message HelloRequest { string name = 1; }\nmessage HelloResponse { bool talk_to_me = 1; }\n";

fn steps(folder: &Path, service: &str) -> Result<Vec<super::Step>, Vec<String>> {
    let proto = folder.join("api.proto");
    fs::write(&proto, API).unwrap();
    let api = Api::read(&proto, &[]).unwrap();
    let service = api.service(Some(service)).unwrap();
    let files = wit::generate(&api.schema, &api.docs(), service);
    plan(&folder.join("wit"), service, files)
        .map_err(|problems| problems.into_iter().map(|problem| problem.detail).collect())
}

#[test]
fn writes_once_and_again_only_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let first = steps(folder.path(), "com.example.HelloWorld").unwrap();
    assert!(first.iter().all(|step| !step.unchanged));
    write(&first).unwrap();
    let again = steps(folder.path(), "HelloWorld").unwrap();
    assert!(again.iter().all(|step| step.unchanged), "{again:?}");
    let world = folder.path().join("wit/world.wit");
    let written = fs::read_to_string(&world).unwrap();
    fs::write(&world, format!("{written}\n// by hand\n")).unwrap();
    let third = steps(folder.path(), "HelloWorld").unwrap();
    assert_eq!(third.iter().filter(|step| !step.unchanged).count(), 1);
    write(&third).unwrap();
    assert_eq!(fs::read_to_string(&world).unwrap(), written);
    assert_eq!(fs::read_dir(folder.path().join("wit")).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn what_others_wrote_stays() {
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("wit/world.wit");
    fs::create_dir_all(world.parent().unwrap()).unwrap();
    fs::write(&world, "package my:own;\n").unwrap();
    let said = steps(folder.path(), "HelloWorld").unwrap_err();
    assert!(said[0].ends_with("world.wit is there, and tutti bindgen did not write it"), "{said:?}");
    assert_eq!(fs::read_to_string(&world).unwrap(), "package my:own;\n");

    fs::remove_file(&world).unwrap();
    write(&steps(folder.path(), "Other").unwrap()).unwrap();
    let said = steps(folder.path(), "HelloWorld").unwrap_err();
    assert!(said[0].ends_with("is of the service com.example.Other"), "{said:?}");
}
