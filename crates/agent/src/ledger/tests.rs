use super::*;
use crate::testing::{id, instance};

fn entry(number: u64) -> Entry {
    Entry {
        generation: 7,
        spec: instance(number).spec,
        ever_ready: true,
        secrets: None,
        asleep: false,
        ended: None,
    }
}

#[tokio::test]
async fn entries_read_back_and_the_last_write_counts() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger")).unwrap();
    assert!(ledger.read().unwrap().is_empty());
    ledger.write(entry(2)).await.unwrap();
    ledger.write(entry(1)).await.unwrap();
    let newer = Entry { generation: 8, ended: Some(InstanceStatus::default()), ..entry(1) };
    ledger.write(newer.clone()).await.unwrap();
    let mut expected = vec![newer, entry(2)];
    expected.sort_by(|a, b| a.spec.instance.cmp(&b.spec.instance));
    assert_eq!(ledger.read().unwrap(), expected);
    ledger.remove(&id(1)).await.unwrap();
    ledger.remove(&id(1)).await.unwrap();
    assert_eq!(ledger.read().unwrap(), vec![entry(2)]);
}

#[tokio::test]
async fn a_damaged_entry_is_set_aside_and_half_a_write_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().to_owned()).unwrap();
    ledger.write(entry(1)).await.unwrap();
    fs::write(folder.path().join("i-damaged.json"), b"{\"generation\": 1").unwrap();
    fs::write(folder.path().join("i-halfway.new"), b"{").unwrap();
    assert_eq!(ledger.read().unwrap(), vec![entry(1)]);
    assert!(folder.path().join("i-damaged.damaged").exists());
    assert_eq!(ledger.read().unwrap(), vec![entry(1)]);
}

#[tokio::test]
async fn what_cannot_be_written_is_said_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger")).unwrap();
    fs::remove_dir(folder.path().join("ledger")).unwrap();
    let error = ledger.write(entry(1)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && error.contains(id(1).as_str()), "{error}");
}
