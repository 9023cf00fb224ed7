use super::{PIECE, speaks_grpc};
use std::fs;

#[test]
fn the_call_interface_is_found_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wasm");
    let name = b"tutti:grpc/call@1.0.0";
    for at in [0, 7, PIECE - 10, PIECE - name.len(), PIECE, PIECE + 3, 2 * PIECE - 20] {
        let mut bytes = vec![b'.'; at];
        bytes.extend_from_slice(name);
        bytes.extend(vec![b'.'; 50]);
        fs::write(&path, &bytes).unwrap();
        assert!(speaks_grpc(&path).unwrap(), "{at}");
        bytes[at + 4] = b'_';
        fs::write(&path, &bytes).unwrap();
        assert!(!speaks_grpc(&path).unwrap(), "{at}");
    }
}
