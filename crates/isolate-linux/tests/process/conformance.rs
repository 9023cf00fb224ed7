//! The contract of every driver.

use crate::subject::Host;
use tutti_isolate::suite;

#[tokio::test]
async fn the_process_driver_passes_the_suite() {
    let host = Host::new();
    let done = suite::run(&host).await;
    let done = done.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(done.len(), 14, "{done:?}");
}
