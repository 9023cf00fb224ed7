use super::*;
use crate::{Bounds, Writer, segment};
use std::io::Write as _;
use tutti_model::Timestamp;

const SMALL: Bounds = Bounds { segment_bytes: 1000, segments: 3 };

fn id(number: u64) -> InstanceId {
    InstanceId::from_bits(number)
}

fn all() -> LogQuery {
    LogQuery::default()
}

fn follow() -> LogQuery {
    LogQuery { follow: true, ..LogQuery::default() }
}

async fn texts(stream: impl Stream<Item = io::Result<LogLine>>) -> Vec<String> {
    stream.map(|line| line.unwrap().line).collect().await
}

async fn next(stream: &mut (impl Stream<Item = io::Result<LogLine>> + Unpin)) -> String {
    tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap().line
}

#[tokio::test]
async fn what_is_appended_is_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), id(1)).unwrap();
    writer.append(Output::Stdout, Timestamp(5), b"one").unwrap();
    for line in [&b"two"[..], b"", b"thr\xffee\0"] {
        writer.add(Output::Stderr, Timestamp(6), line).unwrap();
    }
    writer.flush().unwrap();
    let lines: Vec<LogLine> = read(folder.path(), id(1), all()).map(Result::unwrap).collect().await;
    assert_eq!(
        lines[0],
        LogLine { at: Timestamp(5), instance: id(1), output: Output::Stdout, line: "one".into() }
    );
    let rest: Vec<(Output, &str)> = lines[1..].iter().map(|line| (line.output, line.line.as_str())).collect();
    assert_eq!(
        rest,
        [(Output::Stderr, "two"), (Output::Stderr, ""), (Output::Stderr, "thr\u{fffd}ee\u{fffd}")]
    );
    let recent = LogQuery { since: Some(Timestamp(6)), ..all() };
    assert_eq!(texts(read(folder.path(), id(1), recent)).await.len(), 3);
}

#[tokio::test]
async fn a_log_that_is_not_there_has_no_lines() {
    assert!(texts(read(Path::new("/nonexistent/log"), id(1), all())).await.is_empty());
    assert!(last_lines(Path::new("/nonexistent/log"), 5).is_empty());
}

#[tokio::test]
async fn a_long_line_goes_on_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let long = "é".repeat(20_000);
    Writer::open(folder.path(), id(1))
        .unwrap()
        .append(Output::Stdout, Timestamp(1), long.as_bytes())
        .unwrap();
    let lines = texts(read(folder.path(), id(1), all())).await;
    assert_eq!(lines.len(), 3);
    assert_eq!(lines.concat(), long);
}

#[tokio::test]
async fn a_record_that_a_killed_writer_left_unfinished_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for torn in [&b"17321"[..], b"1732172172123 o hal", b"\0\0\0\0"] {
        let mut writer = Writer::open(folder.path(), id(1)).unwrap();
        writer.append(Output::Stdout, Timestamp(1), b"whole").unwrap();
        let mut file =
            std::fs::OpenOptions::new().append(true).open(segment::path(folder.path(), 0)).unwrap();
        file.write_all(torn).unwrap();
    }
    // Unfinished: not read yet.
    assert_eq!(texts(read(folder.path(), id(1), all())).await, ["whole", "whole", "hal", "whole"]);
    Writer::open(folder.path(), id(1)).unwrap().append(Output::Stdout, Timestamp(2), b"after").unwrap();
    assert_eq!(texts(read(folder.path(), id(1), all())).await, ["whole", "whole", "hal", "whole", "after"]);
}

#[tokio::test]
async fn old_segments_go_and_the_newest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open_bounded(folder.path(), id(1), SMALL).unwrap();
    for number in 0..1000 {
        writer.append(Output::Stdout, Timestamp(number), format!("line {number}").as_bytes()).unwrap();
    }
    assert_eq!(segment::list(folder.path()).unwrap().len(), 3);
    let lines = texts(read(folder.path(), id(1), all())).await;
    let first: u64 = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
    let wanted: Vec<String> = (first..1000).map(|number| format!("line {number}")).collect();
    assert!(lines.len() > 100);
    assert_eq!(lines, wanted);
    // The bounds hold after reopening too.
    let mut writer = Writer::open_bounded(folder.path(), id(1), SMALL).unwrap();
    writer.append(Output::Stdout, Timestamp(1000), b"line 1000").unwrap();
    assert_eq!(last_lines(folder.path(), 2), ["line 999", "line 1000"]);
}

#[tokio::test]
async fn tails_reach_over_segments_and_instances() {
    let root = tempfile::tempdir().unwrap();
    let reader = Reader::new(root.path().to_owned());
    let mut writers: Vec<Writer> =
        (0..3).map(|n| Writer::open_bounded(&reader.folder(&id(n)), id(n), SMALL).unwrap()).collect();
    for number in 0..90u64 {
        let line = format!("line {number}");
        writers[(number % 3) as usize].append(Output::Stdout, Timestamp(number), line.as_bytes()).unwrap();
    }
    for count in [0, 1, 2, 7, 80, 90, 500] {
        let query = LogQuery { instances: (0..3).map(id).collect(), tail: Some(count), ..all() };
        let lines: Vec<String> = reader.read(query).map(|line| line.unwrap().line).collect().await;
        let wanted: Vec<String> = (90 - count.min(90)..90).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, wanted);
    }
    let query = LogQuery { instances: vec![id(1); INSTANCES + 1], ..all() };
    assert_eq!(reader.read(query).next().await.unwrap().unwrap_err().code, ErrorCode::Invalid);
}

#[tokio::test]
async fn last_lines_are_the_instances_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(folder.path(), id(1)).unwrap();
    for number in 0..30 {
        writer.append(Output::Stderr, Timestamp(1), format!("own {number}").as_bytes()).unwrap();
    }
    writer.append(Output::Tutti, Timestamp(2), b"exited with code 3").unwrap();
    let wanted: Vec<String> = (10..30).map(|number| format!("own {number}")).collect();
    assert_eq!(last_lines(folder.path(), 20), wanted);
}

#[tokio::test]
async fn a_follower_sees_each_line_once_through_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut stream = std::pin::pin!(read(&path, id(1), follow()));
    // It begins before there is any log, and goes at the reader's pace, so that nothing is removed unread.
    let mut writer = Writer::open_bounded(&path, id(1), SMALL).unwrap();
    for number in 0..400 {
        writer.append(Output::Stdout, Timestamp(number), format!("line {number}").as_bytes()).unwrap();
        if number % 20 == 19 {
            for wanted in number - 19..=number {
                assert_eq!(next(&mut stream).await, format!("line {wanted}"));
            }
        }
    }
    assert!(segment::list(&path).unwrap()[0] > 0, "there was rotation");
    // A log that is removed ends its stream.
    std::fs::remove_dir_all(&path).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_follower_that_is_too_slow_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open_bounded(folder.path(), id(1), SMALL).unwrap();
    writer.append(Output::Stdout, Timestamp(0), b"first").unwrap();
    let mut stream = std::pin::pin!(read(folder.path(), id(1), follow()));
    assert_eq!(next(&mut stream).await, "first");
    for number in 0..1000 {
        writer.append(Output::Stdout, Timestamp(number), format!("line {number}").as_bytes()).unwrap();
    }
    let mut told = false;
    loop {
        let line = next(&mut stream).await;
        told |= line.starts_with("lines were removed here");
        if line == "line 999" {
            break;
        }
    }
    assert!(told);
}

#[tokio::test]
async fn a_follower_beside_a_busy_writer_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let bounds = Bounds { segment_bytes: 4000, segments: 1000 };
    let writing = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut writer = Writer::open_bounded(&path, id(1), bounds).unwrap();
            for number in 0..20_000u64 {
                writer
                    .append(Output::Stdout, Timestamp(number), format!("line {number}").as_bytes())
                    .unwrap();
            }
        }
    });
    let mut stream = std::pin::pin!(read(&path, id(1), follow()));
    for number in 0..20_000 {
        assert_eq!(next(&mut stream).await, format!("line {number}"));
    }
    writing.join().unwrap();
}
