use super::open;
use crate::limits;
use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
    UninterpretedOption,
};

fn file(name: &str) -> FileDescriptorProto {
    FileDescriptorProto { name: Some(name.to_owned()), package: Some("a.b".to_owned()), ..Default::default() }
}

fn refusal(files: Vec<FileDescriptorProto>) -> String {
    open(&FileDescriptorSet { file: files }.encode_to_vec()).expect_err("is refused").to_string()
}

fn message(name: &str) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), ..Default::default() }
}

#[test]
fn what_is_no_set_is_refused() {
    assert!(open(b"\xff\xff").is_err());
    assert_eq!(open(b"").expect_err("is refused").to_string(), "the descriptor set is empty");
    let large = vec![0; limits::SET_BYTES + 1];
    assert!(open(&large).expect_err("is refused").to_string().contains("the limit is 4194304"));
}

#[test]
fn names_are_identifiers() {
    for name in ["", "a-b", "1a", "a b", "größe", "a\n", &"x".repeat(limits::NAME_BYTES + 1)] {
        let said =
            refusal(vec![FileDescriptorProto { message_type: vec![message(name)], ..file("a.proto") }]);
        assert!(said.starts_with("a.proto: "), "{said}");
    }
    let said = refusal(vec![FileDescriptorProto { package: Some("a..b".to_owned()), ..file("a.proto") }]);
    assert_eq!(said, "a.proto: a name is missing");
}

#[test]
fn imports_come_first_and_once() {
    let importing = FileDescriptorProto { dependency: vec!["b.proto".to_owned()], ..file("a.proto") };
    assert_eq!(
        refusal(vec![importing, file("b.proto")]),
        "a.proto: its import b.proto does not come before it"
    );
    assert_eq!(refusal(vec![file("a.proto"), file("a.proto")]), "a.proto: the file is there twice");
}

#[test]
fn editions_and_leftover_options_are_refused() {
    let edition = FileDescriptorProto { syntax: Some("editions".to_owned()), ..file("a.proto") };
    assert_eq!(refusal(vec![edition]), "a.proto: editions are not supported");
    let options =
        MessageOptions { uninterpreted_option: vec![UninterpretedOption::default()], ..Default::default() };
    let left = DescriptorProto { options: Some(options), ..message("M") };
    let said = refusal(vec![FileDescriptorProto { message_type: vec![left], ..file("a.proto") }]);
    assert!(said.contains("left as text"), "{said}");
}

#[test]
fn a_map_entry_has_a_key_and_a_value() {
    let options = MessageOptions { map_entry: Some(true), ..Default::default() };
    let entry = DescriptorProto { options: Some(options), ..message("E") };
    let field = FieldDescriptorProto {
        name: Some("m".to_owned()),
        number: Some(1),
        label: Some(3),
        type_name: Some(".a.b.M.E".to_owned()),
        r#type: Some(11),
        ..Default::default()
    };
    let holder = DescriptorProto { nested_type: vec![entry], field: vec![field], ..message("M") };
    let said = refusal(vec![FileDescriptorProto { message_type: vec![holder], ..file("a.proto") }]);
    assert_eq!(said, "a.proto: a.b.M.E is not a map's entry");
}

#[test]
fn depth_and_counts_are_bounded() {
    let mut deep = message("M");
    for _ in 0..limits::DECLARED_DEPTH {
        deep = DescriptorProto { nested_type: vec![deep], ..message("M") };
    }
    let said = refusal(vec![FileDescriptorProto { message_type: vec![deep], ..file("a.proto") }]);
    assert!(said.contains("more than 32 deep"), "{said}");
    let many = (0..=limits::MESSAGES).map(|number| message(&format!("M{number}"))).collect();
    let said = refusal(vec![FileDescriptorProto { message_type: many, ..file("a.proto") }]);
    assert!(said.contains("more than 20000 messages"), "{said}");
    let files = (0..=limits::FILES).map(|number| file(&format!("{number}.proto"))).collect();
    assert!(refusal(files).contains("1025 files"));
}
