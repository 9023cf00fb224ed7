use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicU32;
use tutti_base::body;
use tutti_isolate::HandleError;

#[derive(Debug)]
struct Nobody;

#[async_trait::async_trait]
impl tutti_isolate::Handler for Nobody {
    async fn handle(&self, _: http::Request<body::Body>) -> Result<http::Response<body::Body>, HandleError> {
        Err(HandleError::Trap("nobody".into()))
    }
}

fn slot(number: u64, limit: u32) -> Arc<Slot> {
    Arc::new(Slot::new(InstanceId::from_bits(number), Target::Handler(Arc::new(Nobody)), limit))
}

fn line(slots: &[Arc<Slot>]) -> Arc<Line> {
    let line = Arc::new(Line::default());
    line.set(slots.to_vec(), 0);
    line
}

fn queued(joined: Joined) -> Queued {
    match joined {
        Joined::Queued(queued) => queued,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_wanted_instance_is_preferred_and_another_takes_over_when_it_is_full() {
    let slots = [slot(1, 1), slot(2, 2)];
    let line = line(&slots);
    let wanted = InstanceId::from_bits(1);
    let first = line.try_enter(&slots, &wanted).unwrap();
    assert_eq!(first.slot().instance, wanted);
    let second = line.try_enter(&slots, &wanted).unwrap();
    let third = line.try_enter(&slots, &wanted).unwrap();
    assert_eq!((&second.slot().instance, &third.slot().instance), (&slots[1].instance, &slots[1].instance));
    assert!(line.try_enter(&slots, &wanted).is_none());
    drop(first);
    assert_eq!(line.try_enter(&slots, &wanted).unwrap().slot().instance, wanted);
}

#[test]
fn places_go_to_who_waits_longest_and_nobody_overtakes() {
    let slots = [slot(1, 1)];
    let line = line(&slots);
    let any = InstanceId::from_bits(1);
    let inside = line.try_enter(&slots, &any).unwrap();
    let mut first = queued(line.join());
    let mut second = queued(line.join());
    drop(inside);
    assert!(line.try_enter(&slots, &any).is_none(), "who comes now stands behind those who wait");
    let place = first.got.try_recv().unwrap();
    assert!(second.got.try_recv().is_err());
    drop(place);
    assert!(second.got.try_recv().is_ok());
    drop((first, second));
    assert_eq!((line.waiting(), slots[0].running()), (0, 0));
}

#[test]
fn the_queue_is_bounded_and_a_place_in_it_comes_free_when_its_waiter_goes() {
    let slots = [slot(1, 1)];
    let line = line(&slots);
    let _inside = line.try_enter(&slots, &InstanceId::from_bits(1)).unwrap();
    let mut waiters: Vec<_> = (0..limits::QUEUE_REQUESTS).map(|_| queued(line.join())).collect();
    assert!(matches!(line.join(), Joined::Full));
    waiters.remove(500);
    let _one_more = queued(line.join());
    assert!(matches!(line.join(), Joined::Full));
}

#[test]
fn a_place_given_to_one_who_has_gone_is_passed_on() {
    let slots = [slot(1, 1)];
    let line = line(&slots);
    let inside = line.try_enter(&slots, &InstanceId::from_bits(1)).unwrap();
    let first = queued(line.join());
    let mut second = queued(line.join());
    drop(inside);
    // The place lies in the first one's hands, untaken.
    drop(first);
    assert!(second.got.try_recv().is_ok());
}

#[tokio::test]
async fn who_waits_is_sent_away_when_the_last_instance_closes_and_let_in_when_one_opens() {
    let full = slot(1, 1);
    let line = line(std::slice::from_ref(&full));
    let _inside = line.try_enter(std::slice::from_ref(&full), &full.instance).unwrap();
    let mut waiter = queued(line.join());
    let fresh = slot(2, 1);
    line.set(vec![Arc::clone(&full), Arc::clone(&fresh)], 0);
    assert_eq!(waiter.admitted().await.unwrap().slot().instance, fresh.instance);

    let _again = line.try_enter(std::slice::from_ref(&fresh), &fresh.instance).unwrap();
    let mut waiter = queued(line.join());
    line.set(Vec::new(), 0);
    assert!(waiter.admitted().await.is_none());
    assert!(matches!(line.join(), Joined::Closed));
}

#[tokio::test]
async fn a_closed_slot_lets_nobody_in_and_tells_when_it_is_empty() {
    let slots = [slot(1, 5)];
    let line = line(&slots);
    let inside = line.try_enter(&slots, &slots[0].instance).unwrap();
    slots[0].close();
    assert!(line.try_enter(&slots, &slots[0].instance).is_none());
    assert_eq!(slots[0].running(), 1);
    let slot = Arc::clone(&slots[0]);
    let emptied = tokio::spawn(async move { slot.emptied().await });
    tokio::task::yield_now().await;
    assert!(!emptied.is_finished());
    drop(inside);
    tokio::time::timeout(std::time::Duration::from_secs(10), emptied).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_contention_no_limit_is_passed_and_nobody_is_forgotten() {
    let slots = Arc::new([slot(1, 2), slot(2, 3)]);
    let line = line(&slots[..]);
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64u64 {
        let (slots, line, inside, most) = (slots.clone(), line.clone(), inside.clone(), most.clone());
        tasks.spawn(async move {
            for round in 0..200u64 {
                let wanted = InstanceId::from_bits(number % 2 + 1);
                let permit = match line.try_enter(&slots[..], &wanted) {
                    Some(permit) => permit,
                    None => match line.join() {
                        Joined::Admitted(permit) => permit,
                        Joined::Queued(mut queued) => queued.admitted().await.unwrap(),
                        other => panic!("{other:?}"),
                    },
                };
                most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                if (round + number) % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                inside.fetch_sub(1, SeqCst);
                drop(permit);
            }
        });
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.unwrap();
    assert!(most.load(SeqCst) <= 5, "{} were inside at once", most.load(SeqCst));
    assert_eq!((slots[0].running(), slots[1].running(), line.waiting()), (0, 0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    /// A request comes, with a preference.
    Come(u64),
    /// One of those inside leaves.
    Leave(usize),
    /// One of those who wait gives up.
    GiveUp(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..4).prop_map(Step::Come),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::GiveUp),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn limits_hold_order_holds_and_no_place_is_idle_while_somebody_waits(
        limits in proptest::collection::vec(1u32..4, 1..4),
        steps in steps(),
    ) {
        let slots: Vec<_> = (0u64..).zip(&limits).map(|(number, limit)| slot(number, *limit)).collect();
        let line = line(&slots);
        let mut inside: Vec<Permit> = Vec::new();
        let mut waiting: Vec<Queued> = Vec::new();
        for step in steps {
            match step {
                Step::Come(wanted) => match line.try_enter(&slots, &InstanceId::from_bits(wanted)) {
                    Some(permit) => {
                        prop_assert!(waiting.is_empty(), "overtook {} who wait", waiting.len());
                        inside.push(permit);
                    }
                    None => match line.join() {
                        Joined::Queued(queued) => waiting.push(queued),
                        other => prop_assert!(false, "{other:?}"),
                    },
                },
                Step::Leave(which) if !inside.is_empty() => drop(inside.swap_remove(which % inside.len())),
                Step::GiveUp(which) if !waiting.is_empty() => drop(waiting.remove(which % waiting.len())),
                _ => {}
            }
            // Whoever was given a place takes it; that must be a prefix of those who wait.
            while let Some(first) = waiting.first_mut() {
                match first.got.try_recv() {
                    Ok(permit) => inside.push(permit),
                    Err(_) => break,
                }
                waiting.remove(0);
            }
            for later in &mut waiting {
                prop_assert!(later.got.try_recv().is_err(), "a place was given out of order");
            }
            let running: u32 = slots.iter().map(|slot| slot.running()).sum();
            prop_assert_eq!(running as usize, inside.len());
            for (slot, limit) in slots.iter().zip(&limits) {
                prop_assert!(slot.running() <= *limit);
            }
            prop_assert!(waiting.is_empty() || running == limits.iter().sum::<u32>(), "room, but {} wait", waiting.len());
            prop_assert_eq!(line.waiting(), waiting.len());
        }
    }
}
