use super::*;
use futures_util::{StreamExt as _, stream};
use tutti_model::{Timestamp, log::Output};

fn line(at: u64, instance: u64) -> LogLine {
    LogLine {
        at: Timestamp(at),
        instance: InstanceId::from_bits(instance),
        output: Output::Stdout,
        line: format!("{instance} at {at}"),
    }
}

fn of(instance: u64, moments: &'static [u64]) -> Lines {
    stream::iter(moments.iter().map(move |at| Ok(line(*at, instance)))).boxed()
}

/// What is there, and then nothing for ever, as a followed log.
fn open(lines: Lines) -> Lines {
    lines.chain(stream::pending()).boxed()
}

async fn moments(lines: Lines, count: usize) -> Vec<u64> {
    lines.take(count).map(|line| line.unwrap().at.0).collect().await
}

const ASKED: Timestamp = Timestamp(100);

#[tokio::test(start_paused = true)]
async fn lines_of_several_nodes_come_in_order_and_the_last_of_all_are_the_last() {
    let parts = || vec![of(1, &[1, 4, 5]), of(2, &[2, 3, 6]), of(3, &[])];
    assert_eq!(moments(merge::lines(parts(), None, false, ASKED), 9).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(moments(merge::lines(parts(), Some(3), false, ASKED), 9).await, [4, 5, 6]);
    assert_eq!(moments(merge::lines(parts(), Some(0), false, ASKED), 9).await, [0; 0]);
    assert_eq!(moments(merge::lines(vec![], Some(3), true, ASKED), 9).await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_node_holds_nobody_up_when_lines_are_followed() {
    let parts = || vec![open(of(1, &[1, 4, 5])), open(of(2, &[])), open(of(3, &[2, 3]))];
    assert_eq!(moments(merge::lines(parts(), None, true, ASKED), 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(moments(merge::lines(parts(), Some(2), true, ASKED), 2).await, [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn the_past_ends_where_it_was_asked_even_if_a_node_never_pauses() {
    let busy = stream::iter(1_u64..).map(|at| Ok(line(at, 1))).boxed();
    let parts = vec![busy, open(of(2, &[50]))];
    assert_eq!(moments(merge::lines(parts, Some(3), true, ASKED), 5).await, [98, 99, 100, 101, 102]);
}

#[tokio::test(start_paused = true)]
async fn followed_lines_come_as_they_are_written() {
    let (say, heard) = tokio::sync::mpsc::unbounded_channel();
    let live = stream::unfold(heard, |mut heard| async move { Some((heard.recv().await?, heard)) });
    let mut lines = merge::lines(vec![live.boxed(), open(of(2, &[1]))], Some(10), true, ASKED);
    assert_eq!(lines.next().await.unwrap().unwrap().at.0, 1);
    for at in 200..205 {
        say.send(Ok(line(at, 1))).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().at.0, at);
    }
}
