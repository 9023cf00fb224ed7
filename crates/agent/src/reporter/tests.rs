use super::*;
use crate::testing::{FakeZone, id, node_name, tokio_clock};

fn status(restarts: u32) -> InstanceStatus {
    InstanceStatus { state: InstanceState::Backoff, restarts, ..InstanceStatus::default() }
}

fn start(zone: &Arc<FakeZone>) -> Arc<Reporter> {
    let reporter = Arc::new(Reporter::default());
    let run = Arc::clone(&reporter).run(
        node_name(),
        Arc::clone(zone) as Arc<dyn ZoneApi>,
        tokio_clock(),
        Random::seeded(1),
        || {},
        CancellationToken::new(),
    );
    tokio::spawn(run);
    reporter
}

#[tokio::test(start_paused = true)]
async fn failing_reports_lose_nothing_that_still_holds_and_never_go_back() {
    let zone = Arc::new(FakeZone::default());
    zone.heard().refuse_reports = 3;
    let reporter = start(&zone);
    for restarts in 0..50 {
        reporter.say(&id(1), status(restarts));
        reporter.say(&id(2), status(100 + restarts));
        if restarts % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
    zone.until("both are known", |heard| {
        heard.last(&id(1)).restarts == 49 && heard.last(&id(2)).restarts == 149
    })
    .await;
    for said in zone.heard().history.values() {
        assert!(said.is_sorted_by_key(|status| status.restarts), "{said:?}");
        assert!(said.len() < 20, "statuses that no longer held were said: {}", said.len());
    }
}

#[tokio::test(start_paused = true)]
async fn one_report_never_holds_more_than_a_transaction_takes() {
    let zone = Arc::new(FakeZone::default());
    let reporter = start(&zone);
    for number in 0..100 {
        reporter.say(&id(number), status(1));
    }
    zone.until("all are known", |heard| heard.history.len() == 100).await;
    assert!(zone.heard().reports.iter().all(|report| report.len() <= REPORT_INSTANCES));
    assert_eq!(reporter.counts(), BTreeMap::from([(InstanceState::Backoff, 100)]));
}

#[tokio::test(start_paused = true)]
async fn everything_is_said_again_when_asked_but_not_of_the_forgotten() {
    let zone = Arc::new(FakeZone::default());
    let reporter = start(&zone);
    reporter.say(&id(1), status(1));
    reporter.say(&id(2), status(2));
    zone.until("both are known", |heard| heard.history.len() == 2).await;
    reporter.forget(&id(2));
    reporter.say_all_again();
    zone.until("the first is said again", |heard| heard.history[&id(1)].len() == 2).await;
    assert_eq!(zone.heard().history[&id(2)].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_status_that_control_does_not_take_holds_up_no_other() {
    let zone = Arc::new(FakeZone::default());
    zone.heard().poison = Some(id(7));
    let reporter = start(&zone);
    for number in 0..20 {
        reporter.say(&id(number), status(1));
    }
    zone.until("all others are known", |heard| heard.history.len() == 19).await;
    zone.heard().poison = None;
    zone.until("and at last this one", |heard| heard.history.contains_key(&id(7))).await;
}
