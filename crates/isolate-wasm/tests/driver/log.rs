//! What guests write arrives, line by line, whole, and never holds up the executor.

use crate::fixture::Host;
use tutti_model::log::Output;

#[tokio::test]
async fn lines_of_both_streams_arrive_stamped() {
    let host = Host::new();
    let service = host.hostile().await;
    service.text("/log?line=hello").await;
    let lines = service.log_until(|lines| lines.len() >= 2).await;
    let find = |output| lines.iter().find(|line| line.output == output).unwrap();
    assert_eq!(find(Output::Stdout).line, "hello 0");
    assert_eq!(find(Output::Stderr).line, "to standard error, without an end");
    assert!(lines.iter().all(|line| line.at.0 > 0));
}

#[tokio::test]
async fn no_line_is_lost_when_more_is_written_than_the_queue_holds() {
    let host = Host::new();
    let mut manifest = crate::fixture::manifest();
    manifest.timeout = tutti_model::Millis::seconds(30);
    let service = host.start(crate::fixture::guest("hostile_guest"), manifest).await;
    let writers = 4;
    let each = 2000;
    let all = (0..writers).map(|writer| {
        let service = service.clone();
        async move { service.text(&format!("/log?line=w{writer}&lines={each}")).await }
    });
    futures_util::future::join_all(all).await;
    let lines = service
        .log_until(|lines| {
            lines.iter().filter(|line| line.output == Output::Stdout).count() >= writers * each
        })
        .await;
    for writer in 0..writers {
        let name = format!("w{writer} ");
        let numbers: Vec<usize> =
            lines.iter().filter_map(|line| line.line.strip_prefix(&name)?.parse().ok()).collect();
        assert_eq!(numbers, (0..each).collect::<Vec<_>>(), "writer {writer}");
    }
    assert!(lines.iter().all(|line| line.output != Output::Tutti), "{:?}", lines.last());
}
