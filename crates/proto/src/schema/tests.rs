use super::{Field, Kind, MessageIndex, Presence, Schema, Slot};
use crate::compile;

fn schema(source: &str) -> Schema {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.proto");
    std::fs::write(&path, source).expect("written");
    let compiled = compile::compile(&[path.as_path()], &[]).unwrap_or_else(|faults| panic!("{faults:?}"));
    Schema::build(&compiled.pool, &compiled.files).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn field<'a>(schema: &'a Schema, message: &str, name: &str) -> &'a Field {
    let message = schema.messages.iter().find(|one| one.name == message).expect("the message");
    message.fields().find(|field| field.name == name).expect("the field")
}

#[test]
fn presence_follows_the_syntax() {
    let three = schema(
        "syntax = \"proto3\"; service S { rpc Go(M) returns (M); }\n\
         message M { int32 a = 1; optional int32 b = 2; repeated int32 c = 3; repeated int32 d = 4 [packed = false];\n\
         repeated string e = 5; map<string, M> f = 6; oneof o { int32 g = 7; } N h = 8; } message N {}",
    );
    let presence = |name| field(&three, "M", name).presence;
    assert_eq!(presence("a"), Presence::Implicit);
    assert_eq!(presence("b"), Presence::Explicit);
    assert_eq!(presence("c"), Presence::Repeated { packed: true });
    assert_eq!(presence("d"), Presence::Repeated { packed: false });
    assert_eq!(presence("e"), Presence::Repeated { packed: false });
    assert_eq!(presence("f"), Presence::Map { key: Kind::String });
    assert_eq!(field(&three, "M", "f").kind, Kind::Encoded(MessageIndex(0)));
    assert_eq!(presence("g"), Presence::Oneof);
    assert_eq!(presence("h"), Presence::Explicit);
    let two = schema(
        "syntax = \"proto2\"; service S { rpc Go(M) returns (M); }\n\
         message M { required int32 a = 1; optional int32 b = 2 [default = 3]; repeated int32 c = 3;\n\
         repeated int32 d = 4 [packed = true]; }",
    );
    let presence = |name| field(&two, "M", name).presence;
    assert_eq!(presence("a"), Presence::Required);
    assert_eq!(presence("b"), Presence::Explicit);
    assert_eq!(presence("c"), Presence::Repeated { packed: false });
    assert_eq!(presence("d"), Presence::Repeated { packed: true });
}

#[test]
fn slots_keep_the_files_order_and_numbers_find_them() {
    let schema = schema(
        "syntax = \"proto3\"; service S { rpc Go(M) returns (M); }\n\
         message M { int32 late = 9; oneof o { int32 x = 5; int32 y = 2; } int32 early = 1; }",
    );
    let message = &schema.messages[0];
    let names: Vec<&str> = message
        .slots
        .iter()
        .map(|slot| match slot {
            Slot::Field(field) => field.name.as_str(),
            Slot::Oneof { name, .. } => name.as_str(),
        })
        .collect();
    assert_eq!(names, ["late", "o", "early"]);
    for field in message.fields() {
        let place = message.place(field.number).expect("a place");
        let found = match &message.slots[place.slot as usize] {
            Slot::Field(found) => found,
            Slot::Oneof { cases, .. } => &cases[place.case as usize],
        };
        assert_eq!(found.number, field.number);
    }
    assert_eq!(message.place(3), None);
}

#[test]
fn only_what_leads_back_is_boxed() {
    let schema = schema(
        "syntax = \"proto3\"; service S { rpc Go(A) returns (A); }\n\
         message A { B b = 1; C c = 2; } message B { repeated A as = 1; } message C { D d = 1; } message D { D next = 1; }",
    );
    assert!(matches!(field(&schema, "A", "b").kind, Kind::Encoded(_)));
    assert!(matches!(field(&schema, "B", "as").kind, Kind::Encoded(_)));
    assert!(matches!(field(&schema, "A", "c").kind, Kind::Message(_)));
    assert!(matches!(field(&schema, "C", "d").kind, Kind::Message(_)));
    assert!(matches!(field(&schema, "D", "next").kind, Kind::Encoded(_)));
}

#[test]
fn of_several_names_for_a_number_the_first_is_the_case() {
    let schema = schema(
        "syntax = \"proto3\"; service S { rpc Go(M) returns (M); } message M { E e = 1; }\n\
         enum E { option allow_alias = true; A = 0; B = 0; C = 5; D = -2; }",
    );
    let one = &schema.enums[0];
    let names: Vec<&str> = one.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["A", "C", "D"]);
    assert_eq!(one.numbers, [(-2, 2), (0, 0), (5, 1)]);
}

#[test]
fn a_later_type_never_takes_the_name_of_an_earlier() {
    let before =
        schema("syntax = \"proto3\"; service S { rpc Go(Foo) returns (Foo); } message Foo { int32 a = 1; }");
    let after = schema(
        "syntax = \"proto3\"; service S { rpc Go(Foo) returns (Foo); rpc Other(FOO) returns (FOO); }\n\
         message Foo { int32 a = 1; } message FOO { int32 b = 1; }",
    );
    assert_eq!(before.messages[0].wit_name, after.messages[0].wit_name);
    assert_eq!(after.messages[1].wit_name, "foo-n2");
}

#[test]
fn an_unknown_service_is_answered_with_those_there_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.proto");
    std::fs::write(&path, "syntax = \"proto3\"; package p; service S {}").expect("written");
    let compiled = compile::compile(&[path.as_path()], &[]).expect("compiles");
    let faults = Schema::of_service(&compiled.pool, "p.T").expect_err("is not there");
    assert_eq!(faults[0].to_string(), "service \"p.T\" is not declared (there is p.S)");
}
