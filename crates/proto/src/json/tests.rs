use super::*;
use crate::compile::compile;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use std::sync::LazyLock;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json");

static EVERYTHING: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let file = format!("{FOLDER}/vectors.proto");
    let compiled = compile(&[file], &[FOLDER.to_owned()]).unwrap();
    compiled.pool.get_message_by_name("test.json.Everything").unwrap()
});

fn read(json: &str) -> Result<Vec<u8>, JsonFault> {
    to_protobuf(&EVERYTHING, json.as_bytes(), Unknown::Refuse)
}

#[test]
fn vectors_are_read_written_and_refused() {
    let text = std::fs::read_to_string(format!("{FOLDER}/vectors.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut seen = 0;
    for line in lines {
        seen += 1;
        let (json, expected) = line.rsplit_once(" | ").unwrap();
        if let Some(json) = json.strip_prefix("! ") {
            let fault = read(json).expect_err(json);
            assert!(fault.to_string().contains(expected), "{json}: {fault}");
            continue;
        }
        let bytes = read(json).unwrap_or_else(|fault| panic!("{json}: {fault}"));
        let expected = if expected == "=" { json } else { expected };
        assert_eq!(to_json(&EVERYTHING, &bytes).unwrap(), expected, "{json}");
        // The library's own decoder reads the same message from the bytes, but for the sign of zero, which it loses.
        if expected.contains("-0.0") {
            continue;
        }
        let message = DynamicMessage::decode(EVERYTHING.clone(), bytes.as_slice()).unwrap();
        let again = to_json(&EVERYTHING, &message.encode_to_vec()).unwrap();
        assert_eq!(sorted(&again), sorted(expected), "{json}");
    }
    assert!(seen > 130, "{seen}");
}

fn sorted(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

#[test]
fn faults_say_where_and_what_in_words() {
    let json = "{\n  \"inners\": [\n    {},\n    {\"text\": 5}\n  ]\n}";
    let fault = read(json).unwrap_err();
    assert_eq!(fault.to_string(), "line 4, column 14: inners[1].text: expected a string, found a number");
    let fault = read(r#"{"byNumber": {"7": {"txet": 5}}}"#).unwrap_err();
    assert_eq!(fault.path, "byNumber[\"7\"]");
    assert_eq!(fault.what, "test.json.Inner has no field \"txet\"");
    assert_eq!(fault.hint.as_deref(), Some("did you mean \"text\"?"));
    let fault = to_protobuf(&EVERYTHING, b"{\"aString\":\"\xff\"}", Unknown::Refuse).unwrap_err();
    assert_eq!(fault.to_string(), "line 1, column 13: not UTF-8");
}

#[test]
fn what_is_unknown_can_be_ignored() {
    let json = r#"{"x":{"y":[1,"a",null,true]},"color":"GREEN","colors":["GREEN","RED"],"anInt32":1}"#;
    let bytes = to_protobuf(&EVERYTHING, json.as_bytes(), Unknown::Ignore).unwrap();
    assert_eq!(to_json(&EVERYTHING, &bytes).unwrap(), r#"{"anInt32":1,"colors":["RED"]}"#);
}

#[test]
fn nesting_is_bounded_both_ways() {
    let nested = |levels: usize| format!("{}{{}}{}", "{\"inner\":".repeat(levels), "}".repeat(levels));
    assert!(read(&nested(99)).is_ok());
    let fault = read(&nested(100)).unwrap_err();
    assert_eq!(fault.what, "nested deeper than 100");
    let unknown = format!("{{\"x\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
    let fault = to_protobuf(&EVERYTHING, unknown.as_bytes(), Unknown::Ignore).unwrap_err();
    assert_eq!(fault.what, "nested deeper than 100");
    let list = format!("{{\"list\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(read(&list).unwrap_err().what, "nested deeper than 100");

    // Any in Any costs a message few bytes a level.
    let mut bytes = Vec::new();
    for _ in 0..10 {
        let mut outer = Vec::new();
        read::delimited(1, b"a/google.protobuf.Any", &mut outer);
        read::delimited(2, &bytes, &mut outer);
        bytes = outer;
    }
    let mut everything = Vec::new();
    read::delimited(41, &bytes, &mut everything);
    assert_eq!(to_json(&EVERYTHING, &everything), Err(Unwritable::Deep));
    let mut inner = Vec::new();
    for _ in 0..200 {
        let mut outer = Vec::new();
        read::delimited(2, &inner, &mut outer);
        inner = outer;
    }
    let mut everything = Vec::new();
    read::delimited(17, &inner, &mut everything);
    assert_eq!(to_json(&EVERYTHING, &everything), Err(Unwritable::Deep));
    let groups = [[0xfb, 0x7f].repeat(200), [0xfc, 0x7f].repeat(200)].concat();
    assert_eq!(to_json(&EVERYTHING, &groups), Err(Unwritable::Deep));
}

#[test]
fn what_is_written_is_bounded() {
    // Two bytes of a packed enum are a name of 17 letters.
    let mut bytes = Vec::new();
    read::delimited(23, &vec![0; 1 << 20], &mut bytes);
    assert_eq!(to_json(&EVERYTHING, &bytes), Err(Unwritable::Long));
}

#[test]
fn a_mask_of_what_is_no_field_has_no_json() {
    let mask = |paths: &[&str]| {
        let paths = paths.iter().map(|path| Value::String((*path).to_owned())).collect();
        let mut mask = DynamicMessage::new(
            EVERYTHING.get_field_by_name("mask").unwrap().kind().as_message().unwrap().clone(),
        );
        mask.set_field_by_name("paths", Value::List(paths));
        let mut message = DynamicMessage::new(EVERYTHING.clone());
        message.set_field_by_name("mask", Value::Message(mask));
        to_json(&EVERYTHING, &message.encode_to_vec())
    };
    assert_eq!(mask(&["a_b", "c.d1"]).unwrap(), r#"{"mask":"aB,c.d1"}"#);
    assert_eq!(mask(&[]).unwrap(), r#"{"mask":""}"#);
    for wrong in ["", "a,b", "a\nb", "\"a\"", "aB", "a_", "a__b", "a_1", "ä"] {
        assert!(matches!(mask(&["ok", wrong]), Err(Unwritable::NoForm(_))), "{wrong:?}");
    }
}

#[test]
fn the_last_member_of_a_oneof_counts_and_messages_are_merged() {
    let mut bytes = Vec::new();
    read::delimited(29, b"\x0a\x01a", &mut bytes);
    bytes.extend([0xe0, 0x01, 5]);
    read::delimited(29, b"\x12\x03\x0a\x01b", &mut bytes);
    assert_eq!(to_json(&EVERYTHING, &bytes).unwrap(), r#"{"three":{"inner":{"text":"b"}}}"#);
    let mut bytes = Vec::new();
    read::delimited(17, b"\x0a\x01a", &mut bytes);
    read::delimited(17, b"\x12\x03\x0a\x01b", &mut bytes);
    assert_eq!(to_json(&EVERYTHING, &bytes).unwrap(), r#"{"inner":{"text":"a","inner":{"text":"b"}}}"#);
}

#[test]
fn fields_are_given_as_text_or_as_json_of_their_own() {
    let field = |name: &str| EVERYTHING.get_field_by_name(name).unwrap();
    let mut bytes = Vec::new();
    for (name, value) in [
        ("an_int64", "-5"),
        ("a_bool", "true"),
        ("color", "BLUE"),
        ("some_bytes", "-_8"),
        ("time", "1970-01-01T00:00:00Z"),
        ("a_bool_value", "false"),
        ("texts", "a"),
        ("texts", "b c"),
        ("mask", "aB,c"),
        ("a_string", "{\"not\":\"json\"}"),
    ] {
        append_text(&field(name), value, &mut bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
    append_json(&field("inner"), b"{\"text\":\"x\"}", Unknown::Refuse, &mut bytes).unwrap();
    append_json(&field("inners"), b"[{}]", Unknown::Refuse, &mut bytes).unwrap();
    append_json(&field("by_text"), b"null", Unknown::Refuse, &mut bytes).unwrap();
    assert_eq!(
        to_json(&EVERYTHING, &bytes).unwrap(),
        concat!(
            r#"{"anInt64":"-5","aBool":true,"aString":"{\"not\":\"json\"}","someBytes":"+/8=","color":"BLUE","#,
            r#""inner":{"text":"x"},"texts":["a","b c"],"inners":[{}],"mask":"aB,c","time":"1970-01-01T00:00:00Z","#,
            r#""aBoolValue":false}"#
        )
    );
    let before = bytes.clone();
    for (name, value) in
        [("an_int64", "x"), ("inner", "{}"), ("color", "GREEN"), ("by_text", "a"), ("time", "now")]
    {
        assert!(append_text(&field(name), value, &mut bytes).is_err(), "{name}");
    }
    assert_eq!(bytes, before);
    assert_eq!(field_to_json(&EVERYTHING, &field("inner"), &bytes).unwrap(), r#"{"text":"x"}"#);
    assert_eq!(field_to_json(&EVERYTHING, &field("doubles"), &bytes).unwrap(), "[]");
    assert_eq!(field_to_json(&EVERYTHING, &field("an_int32"), &bytes).unwrap(), "null");
    assert_eq!(FromText::of(&field("inner")), FromText::No);
    assert_eq!(FromText::of(&field("times")), FromText::Many);
    assert_eq!(FromText::of(&field("by_text")), FromText::No);
}

#[test]
fn details_are_written_by_their_type_or_as_they_are() {
    let mut status = Vec::new();
    for (url, value) in [
        ("type.googleapis.com/test.json.Inner", b"\x0a\x01a".as_slice()),
        ("type.googleapis.com/google.protobuf.Duration", b"\x08\x01"),
        ("type.googleapis.com/no.such.Type", b"\x01"),
        ("type.googleapis.com/test.json.Inner", b"\xff"),
    ] {
        let mut any = Vec::new();
        read::delimited(1, url.as_bytes(), &mut any);
        read::delimited(2, value, &mut any);
        read::delimited(3, &any, &mut status);
    }
    assert_eq!(
        details_to_json(EVERYTHING.parent_pool(), &status),
        concat!(
            r#"[{"@type":"type.googleapis.com/test.json.Inner","text":"a"},"#,
            r#"{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"},"#,
            r#"{"@type":"type.googleapis.com/no.such.Type","value":"AQ=="},"#,
            r#"{"@type":"type.googleapis.com/test.json.Inner","value":"/w=="}]"#
        )
    );
    assert_eq!(details_to_json(EVERYTHING.parent_pool(), b"\xff"), "[]");
}

fn scalar_fields() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let one = prop_oneof![
        any::<i32>().prop_map(|value| ("an_int32", Value::I32(value))),
        any::<i64>().prop_map(|value| ("an_int64", Value::I64(value))),
        any::<u32>().prop_map(|value| ("a_fixed32", Value::U32(value))),
        any::<u64>().prop_map(|value| ("a_uint64", Value::U64(value))),
        any::<i32>().prop_map(|value| ("a_sint32", Value::I32(value))),
        any::<i64>().prop_map(|value| ("a_sint64", Value::I64(value))),
        any::<i64>().prop_map(|value| ("a_sfixed64", Value::I64(value))),
        any::<f32>().prop_map(|value| ("a_float", Value::F32(if value.is_nan() { f32::NAN } else { value }))),
        any::<f64>()
            .prop_map(|value| ("a_double", Value::F64(if value.is_nan() { f64::NAN } else { value }))),
        any::<String>().prop_map(|value| ("a_string", Value::String(value))),
        any::<Vec<u8>>().prop_map(|value| ("some_bytes", Value::Bytes(value.into()))),
        any::<i32>().prop_map(|value| ("color", Value::EnumNumber(value))),
        any::<Vec<i32>>().prop_map(|all| ("packed", Value::List(all.into_iter().map(Value::I32).collect()))),
        any::<Vec<i64>>()
            .prop_map(|all| ("unpacked", Value::List(all.into_iter().map(Value::I64).collect()))),
        any::<Vec<String>>()
            .prop_map(|all| ("texts", Value::List(all.into_iter().map(Value::String).collect()))),
        any::<String>().prop_map(|value| ("one", Value::String(value))),
        any::<i32>().prop_map(|value| ("two", Value::I32(value))),
    ];
    proptest::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn messages_go_through_json_unchanged(fields in scalar_fields()) {
        let mut message = DynamicMessage::new(EVERYTHING.clone());
        for (name, value) in fields {
            message.set_field_by_name(name, value);
        }
        let json = to_json(&EVERYTHING, &message.encode_to_vec()).unwrap();
        let bytes = read(&json).unwrap();
        let back = DynamicMessage::decode(EVERYTHING.clone(), bytes.as_slice()).unwrap();
        // Not the messages themselves: NaN is not equal to NaN.
        prop_assert_eq!(back.encode_to_vec(), message.encode_to_vec());
    }

    #[test]
    fn any_bytes_are_written_or_refused(bytes in any::<Vec<u8>>()) {
        if let Ok(json) = to_json(&EVERYTHING, &bytes) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[{}\\[\\]:,\"a-z0-9 .eE+\\\\@-]{0,40}") {
        let accepted = to_protobuf(&EVERYTHING, text.as_bytes(), Unknown::Ignore).is_ok();
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert!(is_json || !accepted, "{}", text);
    }

    #[test]
    fn strings_are_read_as_json_has_them(text in any::<String>()) {
        let json = serde_json::json!({ "aString": text }).to_string();
        let bytes = read(&json).unwrap();
        let message = DynamicMessage::decode(EVERYTHING.clone(), bytes.as_slice()).unwrap();
        let value = message.get_field_by_name("a_string").unwrap().into_owned();
        prop_assert_eq!(value, Value::String(text));
    }
}
