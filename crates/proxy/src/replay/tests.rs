use super::*;
use futures_util::FutureExt as _;
use http_body_util::StreamBody;
use proptest::prelude::*;

fn chunks(sizes: &[usize]) -> (Body, Vec<u8>) {
    let all: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut from = 0;
    let frames: Vec<_> = sizes
        .iter()
        .map(|size| {
            let part = Bytes::copy_from_slice(&all[from..from + size]);
            from += size;
            Ok::<_, BodyError>(Frame::data(part))
        })
        .collect();
    (StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync(), all)
}

/// Reads what can be had without waiting.
fn read_now(body: &mut Body) -> Vec<u8> {
    let mut got = Vec::new();
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        got.extend(frame.into_data().unwrap());
    }
    got
}

proptest! {
    #[test]
    fn a_refused_body_is_whole(sizes in proptest::collection::vec(0usize..40_000, 0..8), read in 0usize..9) {
        let (body, all) = chunks(&sizes);
        let (replay, mut sent) = Replay::new(body);
        for _ in 0..read {
            let _ = sent.frame().now_or_never();
        }
        let again = replay.take_back().collect().now_or_never().unwrap().unwrap().to_bytes();
        prop_assert_eq!(&again[..], &all[..]);
    }

    #[test]
    fn an_admitted_body_flows_whole(sizes in proptest::collection::vec(0usize..40_000, 0..8)) {
        let (body, all) = chunks(&sizes);
        let (replay, mut sent) = Replay::new(body);
        let mut got = read_now(&mut sent);
        prop_assert!(got.len() <= REPLAY_BODY_BYTES);
        replay.admit();
        got.extend(read_now(&mut sent));
        prop_assert_eq!(got, all);
    }
}

#[test]
fn no_more_than_the_kept_bytes_are_sent_before_admission() {
    let (body, _) = chunks(&[REPLAY_BODY_BYTES, 1, 1]);
    let (_replay, mut sent) = Replay::new(body);
    assert_eq!(read_now(&mut sent).len(), REPLAY_BODY_BYTES);
    assert!(sent.frame().now_or_never().is_none(), "it waits");
}

#[test]
fn a_sent_part_breaks_once_the_body_was_taken_back() {
    let (body, _) = chunks(&[1, 1]);
    let (replay, mut sent) = Replay::new(body);
    let _again = replay.take_back();
    assert!(sent.frame().now_or_never().unwrap().unwrap().is_err());
}

#[test]
fn a_brief_replay_holds_nothing_back_and_says_so_when_it_is_too_late() {
    let (body, all) = chunks(&[REPLAY_BODY_BYTES, 1, 70_000]);
    let (replay, mut sent) = Replay::brief(body);
    let _ = sent.frame().now_or_never();
    assert_eq!(replay.try_take_back().unwrap().collect().now_or_never().unwrap().unwrap().to_bytes(), all);
    let (body, all) = chunks(&[REPLAY_BODY_BYTES, 1, 70_000]);
    let (replay, mut sent) = Replay::brief(body);
    assert_eq!(read_now(&mut sent), all);
    assert!(replay.try_take_back().is_none());
}
