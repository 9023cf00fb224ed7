use super::*;
use proptest::prelude::*;
use tutti_base::SystemClock;

/// A log whose writer does nothing until it is asked to.
fn stuck() -> (Arc<Log>, mpsc::Receiver<Entry>) {
    let (queue, entries) = mpsc::channel(QUEUED_CHUNKS);
    (Arc::new(Log { queue, lost: Arc::default(), clock: Arc::new(SystemClock) }), entries)
}

fn taken(entries: &mut mpsc::Receiver<Entry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Entry::Chunk(chunk)) = entries.try_recv() {
        bytes.extend_from_slice(&chunk.bytes);
    }
    bytes
}

#[tokio::test]
async fn a_guest_waits_when_the_log_is_behind_and_loses_nothing() {
    let (log, mut entries) = stuck();
    let mut pipe = Pipe::new(Arc::clone(&log), Output::Stdout);
    let mut written = 0;
    while pipe.check_write().unwrap() > 0 {
        pipe.write(Bytes::from_static(b"line\n")).unwrap();
        written += 1;
        assert!(written <= 2 * QUEUED_CHUNKS, "the queue has no end");
    }
    assert!(futures_util::poll!(pipe.ready()).is_pending());
    assert_eq!(taken(&mut entries), b"line\n".repeat(QUEUED_CHUNKS));
    pipe.ready().await;
    assert!(pipe.check_write().unwrap() > 0);
    assert_eq!(taken(&mut entries), b"line\n".repeat(written - QUEUED_CHUNKS));
    assert_eq!(log.lost.load(Ordering::Relaxed), 0);
}

#[test]
fn more_than_was_allowed_is_a_trap() {
    let (log, _entries) = stuck();
    let mut pipe = Pipe::new(log, Output::Stdout);
    let result = pipe.write(Bytes::from(vec![b'x'; WRITE_BYTES + 1]));
    assert!(matches!(result, Err(StreamError::Trap(_))));
}

#[test]
fn what_is_lost_is_counted_and_said() {
    let (log, mut entries) = stuck();
    for _ in 0..QUEUED_CHUNKS {
        log.note("fills the queue");
    }
    Pipe::new(Arc::clone(&log), Output::Stderr).write(Bytes::from_static(b"the last words")).unwrap();
    log.note("and one more");
    assert_eq!(log.lost.load(Ordering::Relaxed), 2);
    taken(&mut entries);

    let folder = tempfile::tempdir().unwrap();
    let id = tutti_model::InstanceId::from_bits(1);
    let mut writer = Writer::open(folder.path(), id.clone()).unwrap();
    assert_eq!(write_batch(&mut writer, Vec::new(), 2, Timestamp(5)), 0);
    let segment = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(segment).unwrap();
    assert!(text.contains("some output was lost here: 2 writes"), "{text}");
}

proptest! {
    /// However output is cut into writes, it arrives whole and in order, in pieces that end at a line's end or are
    /// as long as a line may be, and never cut a character.
    #[test]
    fn arrives_whole(text in "[a-zäß€\n]{0,300}", cuts in prop::collection::vec(0usize..200, 0..40), long in 0usize..3) {
        let (log, mut entries) = stuck();
        let mut pipe = Pipe::new(log, Output::Stdout);
        let text = format!("{}{text}", "ä€".repeat(long * 5000));
        let mut rest = text.as_bytes();
        let mut arrived = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().map_or(7000, |cut| cut * 37 + 1).min(rest.len()).min(WRITE_BYTES);
            let (piece, more) = rest.split_at(cut);
            pipe.write(Bytes::copy_from_slice(piece)).unwrap();
            rest = more;
            prop_assert!(pipe.0.rest.lock().unwrap().len() < LOG_LINE_BYTES + WRITE_BYTES);
            while let Ok(Entry::Chunk(chunk)) = entries.try_recv() {
                let whole = chunk.bytes.ends_with(b"\n") || chunk.bytes.len() >= LOG_LINE_BYTES - 3;
                prop_assert!(whole, "a piece of {} bytes", chunk.bytes.len());
                prop_assert!(std::str::from_utf8(&chunk.bytes).is_ok());
                arrived.extend_from_slice(&chunk.bytes);
            }
        }
        drop(pipe);
        arrived.extend(taken(&mut entries));
        prop_assert_eq!(arrived, text.into_bytes());
    }
}
