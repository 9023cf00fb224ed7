//! The wide guest's WIT is checked in, so that it builds by itself; here it is held to its `.proto`.

use crate::host::{PROTO, SERVICE, described};
use std::path::Path;
use tutti_proto::{docs::Docs, schema::Schema, wit};

#[test]
fn the_guests_wit_is_that_of_its_proto() {
    let pool = &described().pool;
    let schema = Schema::of_service(pool, SERVICE).unwrap();
    let service = schema.service(SERVICE).unwrap();
    for file in wit::generate(&schema, &Docs::of(pool), service) {
        let path = Path::new(PROTO).with_file_name("wit").join(&file.path);
        if std::env::var_os("UPDATE_WIT").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &file.text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == file.text, "{} is old: run this test with UPDATE_WIT=1", path.display());
    }
}
