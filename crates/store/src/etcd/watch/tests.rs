use super::*;
use crate::etcd::proto::KeyValue;

fn event(revision: i64, key: &str, bytes: usize) -> Event {
    let kv = KeyValue {
        key: format!("t/{key}").into(),
        create_revision: revision,
        mod_revision: revision,
        value: vec![0; bytes].into(),
        ..KeyValue::default()
    };
    Event { r#type: EventType::Put.into(), kv: Some(kv) }
}

fn answer(fragment: bool, events: &[(i64, &str)]) -> WatchResponse {
    let events = events.iter().map(|(revision, key)| event(*revision, key, 1)).collect();
    WatchResponse { fragment, events, ..WatchResponse::default() }
}

fn given(commits: Vec<Commit>) -> Vec<(Revision, Vec<String>)> {
    let keys = |commit: &Commit| commit.changes.iter().map(|change| change_key(change).to_owned()).collect();
    commits.iter().map(|commit| (commit.revision, keys(commit))).collect()
}

fn keys(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

#[test]
fn transactions_are_whole_whatever_the_parts_they_come_in() {
    let mut assembly = Assembly::new(Root::new("t"), 5);
    let got = assembly.take(answer(false, &[(5, "was"), (6, "b"), (6, "a"), (9, "c")])).unwrap();
    assert_eq!(given(got), [(5, keys(&["a", "b"])), (8, keys(&["c"]))]);
    let got = assembly.take(answer(true, &[(10, "a"), (11, "d")])).unwrap();
    assert_eq!(given(got), [(9, keys(&["a"]))]);
    assert!(assembly.take(answer(true, &[(11, "c")])).unwrap().is_empty());
    assert!(assembly.take(answer(true, &[])).unwrap().is_empty());
    let got = assembly.take(answer(false, &[(11, "b")])).unwrap();
    assert_eq!(given(got), [(10, keys(&["b", "c", "d"]))]);
    assert!(assembly.take(answer(false, &[])).unwrap().is_empty());
}

#[test]
fn a_revision_that_was_given_and_one_before_it_are_faults() {
    for second in [6, 7] {
        let mut assembly = Assembly::new(Root::new("t"), 5);
        assembly.take(answer(false, &[(7, "a")])).unwrap();
        let error = assembly.take(answer(false, &[(second, "b")])).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
}

#[test]
fn a_revision_that_grows_past_the_bound_is_a_fault() {
    let mut assembly = Assembly::new(Root::new("t"), 5);
    let part = |key| WatchResponse {
        fragment: true,
        events: vec![event(6, key, WATCH_BYTES / 2)],
        ..WatchResponse::default()
    };
    assembly.take(part("a")).unwrap();
    let error = assembly.take(part("b")).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

fn intake() -> (Intake, Live) {
    let (sender, commits) = mpsc::channel(WATCH_EVENTS);
    let (held, end) = (Arc::<AtomicUsize>::default(), Arc::<OnceLock<StoreError>>::default());
    let intake = Intake {
        assembly: Assembly::new(Root::new("t"), 1),
        sender,
        held: Arc::clone(&held),
        end: Arc::clone(&end),
        member: "a:1".into(),
        cancel: oneshot::channel().0,
        closing: CancellationToken::new(),
    };
    (intake, Live { commits, held, end })
}

#[tokio::test]
async fn one_transaction_or_byte_too_many_lags_after_what_is_held() {
    let (mut intake, mut live) = intake();
    let most = i64::try_from(WATCH_EVENTS).unwrap();
    for revision in 2..most + 2 {
        intake.take(answer(false, &[(revision, "a")])).unwrap();
    }
    assert_eq!(intake.take(answer(false, &[(most + 2, "a")])), Err(StoreError::Lagged));
    assert!(matches!(live.next().await, Ok(WatchEvent::Changes { revision: 1, .. })));

    let (mut intake, mut live) = self::intake();
    let large = |revision| WatchResponse {
        events: vec![event(revision, "a", WATCH_BYTES / 2)],
        ..WatchResponse::default()
    };
    intake.take(large(2)).unwrap();
    assert_eq!(intake.take(large(3)), Err(StoreError::Lagged));
    intake.end.set(StoreError::Lagged).unwrap();
    drop(intake);
    assert!(matches!(live.next().await, Ok(WatchEvent::Changes { revision: 1, .. })));
    assert_eq!(live.next().await, Err(StoreError::Lagged));
}

#[test]
fn compaction_is_told_with_where_the_watch_was() {
    let (mut intake, _live) = intake();
    intake.take(answer(false, &[(4, "a")])).unwrap();
    let told = WatchResponse { canceled: true, compact_revision: 9, ..WatchResponse::default() };
    assert_eq!(intake.take(told), Err(StoreError::Compacted { asked: 3, oldest: 8 }));
}
