use super::*;
use proptest::prelude::*;
use std::{path::Path, sync::OnceLock};

const MOST: usize = 1 << 20;

/// Every type, as the guest of the tests has them.
fn codec() -> &'static Codec {
    static CODEC: OnceLock<Codec> = OnceLock::new();
    CODEC.get_or_init(|| {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc_guest/echo.proto");
        let compiled = tutti_proto::compile::compile(&[proto], &[]).unwrap();
        Codec::new(Schema::of_service(&compiled.pool, "com.example.Echo").unwrap())
    })
}

fn index(name: &str) -> MessageIndex {
    let at =
        codec().schema().messages.iter().position(|message| message.name == format!("com.example.{name}"));
    MessageIndex(at.unwrap().try_into().unwrap())
}

fn decode(name: &str, bytes: &[u8]) -> Result<Val, Malformed> {
    codec().decode(index(name), bytes, value_bytes(MOST)).map(|(value, _)| value)
}

/// What is written of what was read.
fn again(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec().encode(index(name), &decode(name, bytes).unwrap(), MOST, &mut out).unwrap();
    out
}

fn fault(name: &str, bytes: &[u8]) -> (String, usize, Reason) {
    let fault = decode(name, bytes).unwrap_err();
    (fault.path, fault.offset, fault.reason)
}

#[test]
fn the_last_scalar_wins_and_messages_merge() {
    assert_eq!(again("HelloRequest", b"\x0a\x01a\x0a\x01b"), b"\x0a\x01b");
    // f_leaf (17): numbers [1], then text "x" and numbers [2].
    let merged = again("AllTypes", b"\x8a\x01\x03\x12\x01\x02\x8a\x01\x06\x0a\x01x\x12\x01\x04");
    assert_eq!(merged, b"\x8a\x01\x07\x0a\x01x\x12\x02\x02\x04");
    // A oneof: c_number, then c_leaf twice.
    let merged = again("AllTypes", b"\xe8\x03\x01\xfa\x03\x03\x0a\x01x\xfa\x03\x03\x12\x01\x02");
    assert_eq!(merged, b"\xfa\x03\x06\x0a\x01x\x12\x01\x02");
    // A boxed message: merging is concatenation.
    assert_eq!(again("Tree", b"\x12\x03\x0a\x01a\x12\x03\x0a\x01b"), b"\x12\x06\x0a\x01a\x0a\x01b");
}

#[test]
fn packed_and_unpacked_are_both_read() {
    assert_eq!(again("Leaf", b"\x10\x02\x12\x02\x04\x06"), b"\x12\x03\x02\x04\x06");
    assert_eq!(again("AllTypes", b"\xc2\x02\x02\x01\x02"), b"\xc0\x02\x01\xc0\x02\x02");
}

#[test]
fn what_is_not_known_is_skipped() {
    // Field 100 in every wire type, and a group with a group in it.
    let unknown =
        b"\xa0\x06\x01\xa1\x0612345678\xa2\x06\x01x\xa5\x061234\xa3\x06\xab\x06\xac\x06\xa4\x06\x0a\x01a";
    assert_eq!(again("HelloRequest", unknown), b"\x0a\x01a");
    // An enum's number that nobody knows leaves what was there; name (1) as a varint is another field.
    assert_eq!(again("Leaf", b"\x18\x01\x18\x63"), b"\x18\x01");
    assert_eq!(again("HelloRequest", b"\x08\x05"), b"");
}

#[test]
fn zeros_are_told_apart_by_presence_and_by_sign() {
    let minus_zero = b"\x09\0\0\0\0\0\0\0\x80";
    assert_eq!(again("AllTypes", minus_zero), minus_zero);
    assert_eq!(again("AllTypes", b"\x09\0\0\0\0\0\0\0\0"), b"");
    assert_eq!(again("AllTypes", b"\xb0\x01\0"), b"\xb0\x01\0");
    let nan = b"\x09\x01\0\0\0\0\0\xf8\x7f";
    assert_eq!(again("AllTypes", nan), nan);
}

#[test]
fn a_maps_key_is_there_once_and_its_parts_may_be_missing() {
    // m_string (51): a=1, then a=2, then an entry without key and value.
    let read = again("AllTypes", b"\x9a\x03\x06\x0a\x01a\x12\x011\x9a\x03\x06\x0a\x01a\x12\x012\x9a\x03\0");
    assert_eq!(read, b"\x9a\x03\x04\x0a\0\x12\0\x9a\x03\x06\x0a\x01a\x12\x012");
}

#[test]
fn faults_have_their_path_and_offset() {
    assert_eq!(fault("HelloRequest", b"\x0a\x05x"), (".name".to_owned(), 1, Reason::CutOff));
    assert_eq!(fault("HelloRequest", b"\x0a\x03a\xffb"), (".name".to_owned(), 3, Reason::Utf8));
    assert_eq!(fault("HelloRequest", b"\x00"), (String::new(), 0, Reason::FieldNumber));
    assert_eq!(fault("HelloRequest", b"\x0e"), (String::new(), 0, Reason::WireType));
    assert_eq!(fault("HelloRequest", b"\x0c"), (String::new(), 1, Reason::Group));
    assert_eq!(fault("HelloRequest", &[0xff; 11]), (String::new(), 0, Reason::Varint));
    // r_leaf (39), the second: its text.
    let second = b"\xba\x02\0\xba\x02\x03\x0a\x01\xff";
    assert_eq!(fault("AllTypes", second), (".r_leaf[1].text".to_owned(), 8, Reason::Utf8));
}

#[test]
fn small_messages_do_not_unfold_without_a_bound() {
    let many = [0xba, 0x02, 0x00].repeat(MOST / 3);
    assert_eq!(fault("AllTypes", &many).2, Reason::TooLarge);
    let long = Val::Record(vec![("name".to_owned(), Val::String("x".repeat(100)))]);
    let too_long = codec().encode(index("HelloRequest"), &long, 101, &mut Vec::new());
    assert_eq!(too_long, Err(Unencodable::TooLong(101)));
    assert_eq!(codec().encode(index("HelloRequest"), &long, 102, &mut Vec::new()), Ok(()));
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_so_that_it_reads_the_same(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = decode("AllTypes", &bytes) {
            let mut out = Vec::new();
            codec().encode(index("AllTypes"), &value, MOST, &mut out).unwrap();
            prop_assert_eq!(again("AllTypes", &out), out);
        }
    }
}
