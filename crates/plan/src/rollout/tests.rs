use super::*;
use proptest::prelude::*;
use tutti_model::{
    DeploymentId, Millis, Share, Uid, VersionName,
    name::ZoneName,
    report::{Candidate, DeployReport},
    stats::{BUCKETS, Histogram, bucket_of},
};

fn version(text: &str) -> VersionName {
    text.parse().unwrap()
}

fn share(text: &str) -> Share {
    text.parse().unwrap()
}

/// A deployment of 2.0 over 1.0 with its service, driven look by look.
struct Story {
    now: Timestamp,
    deployment: Resource<DeploymentSpec>,
    service: Resource<ServiceSpec>,
    report: Option<ReportSpec>,
    stats: VersionStats,
    deploying: Vec<DeployReport>,
}

impl Story {
    fn new(steps: &[&str], abort_if: &[&str]) -> Self {
        let id = DeploymentId::from_bits(1);
        let spec = DeploymentSpec {
            deployment: id.clone(),
            service: "example.com:web".parse().unwrap(),
            target: Target::Version {
                version: version("2.0"),
                steps: steps.iter().map(|text| share(text)).collect(),
            },
            every: Millis::seconds(30),
            abort_if: abort_if.iter().map(|text| text.parse().unwrap()).collect(),
            intent: Intent::Proceed,
            promoted: 0,
        };
        let mut deployment = Resource::new(id.to_string(), Uid::from_bits(1), Timestamp(0), spec);
        deployment.status.from = Split::all(version("1.0"));
        let spec =
            ServiceSpec { service: "example.com:web".parse().unwrap(), upstreams: Vec::new(), workers: None };
        let mut service = Resource::new("example.com:web", Uid::from_bits(2), Timestamp(0), spec);
        service.status.split = Split::all(version("1.0"));
        service.status.deployment = Some(id);
        Story {
            now: Timestamp(1000),
            deployment,
            service,
            report: None,
            stats: VersionStats::default(),
            deploying: Vec::new(),
        }
    }

    /// The zone acts on what it is told, and has come this far.
    fn zone(&mut self, progress: Progress) -> &mut Self {
        self.report = Some(ReportSpec {
            scaled: None,
            zone: ZoneName::local(),
            service: self.service.spec.service.clone(),
            round: self.service.status.round,
            progress,
            split: self.service.status.split.clone(),
            versions: Vec::new(),
            reasons: Vec::new(),
            prepared: None,
            deploying: self.deploying.clone(),
        });
        self.look()
    }

    fn look(&mut self) -> &mut Self {
        let plan = advance(RolloutView {
            now: self.now,
            deployment: &self.deployment,
            service: &self.service,
            reports: std::slice::from_ref(&self.report),
            since_step: &self.stats,
        });
        self.deployment.status = plan.deployment;
        self.service.status = plan.service;
        self
    }

    fn phase(&self) -> Phase {
        self.deployment.status.phase
    }

    fn answers(&mut self, answers: u64, errors: u64) -> &mut Self {
        let mut counts = vec![0; BUCKETS];
        counts[bucket_of(1000)] = answers;
        self.stats = VersionStats { answers, errors, latency: Histogram::from_counts(counts), running: 0 };
        self
    }

    fn seconds(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.plus(Millis::seconds(seconds));
        self
    }

    fn share(&self) -> Share {
        self.service.status.split.share(&version("2.0"))
    }
}

fn failed() -> Progress {
    Progress::Failed {
        failure: Failure {
            reason: "GET / answered 500".into(),
            instance: None,
            last_lines: vec!["boom".into()],
        },
    }
}

#[test]
fn a_plain_deploy_walks_through_its_phases_and_frees_the_lock() {
    let mut story = Story::new(&["100%"], &[]);
    story.look();
    assert_eq!(story.service.status.round, 1);
    for (progress, phase) in [
        (Progress::Placing, Phase::Placing),
        (Progress::Preloading, Phase::Preloading),
        (Progress::Starting, Phase::Starting),
        (Progress::Shifting, Phase::Shifting),
        (Progress::Settled, Phase::Done),
    ] {
        story.zone(progress);
        assert_eq!(story.phase(), phase);
    }
    assert_eq!(story.service.status.deployment, None);
    assert_eq!(story.service.status.split, Split::all(version("2.0")));
    assert_eq!(story.service.status.previous, Some(Split::all(version("1.0"))));
}

#[test]
fn a_report_of_an_earlier_round_moves_nothing() {
    let mut story = Story::new(&["100%"], &[]);
    story.zone(Progress::Settled);
    assert_eq!((story.phase(), story.service.status.round), (Phase::Placing, 1));
    story.look();
    assert_eq!(story.phase(), Phase::Placing, "the zone settled on what was before");
}

#[test]
fn a_failed_health_gate_restores_and_says_why() {
    let mut story = Story::new(&["100%"], &[]);
    story.look().zone(Progress::Starting).zone(failed());
    assert_eq!(story.phase(), Phase::Failing);
    assert_eq!(story.share(), Share::ZERO);
    assert!(story.service.status.deployment.is_some(), "it holds the lock until the weights are back");
    story.zone(Progress::Settled);
    assert_eq!(story.phase(), Phase::Failed);
    assert_eq!(story.deployment.status.failure.as_ref().unwrap().last_lines, ["boom"]);
    assert_eq!(story.service.status.previous, None, "nothing to roll back to but what serves");
}

#[test]
fn steps_walk_by_time_and_wait_for_answers() {
    let mut story = Story::new(&["10%", "50%", "100%"], &["error_rate>1%"]);
    story.look().zone(Progress::Settled);
    assert_eq!((story.phase(), story.share()), (Phase::Observing, share("10%")));
    story.seconds(31).answers(49, 0).look();
    assert_eq!(story.phase(), Phase::Observing);
    assert!(
        story.deployment.status.message.contains("only 49 of the 50 answers"),
        "{}",
        story.deployment.status.message
    );
    story.answers(50, 0).look();
    assert_eq!((story.phase(), story.share()), (Phase::Placing, share("50%")));
    story.zone(Progress::Settled).seconds(31).look();
    assert_eq!(story.share(), share("100%"));
    story.zone(Progress::Settled);
    assert_eq!(story.phase(), Phase::Done);
}

#[test]
fn a_bad_step_aborts_before_its_time() {
    let mut story = Story::new(&["10%", "100%"], &["error_rate>1%"]);
    story.look().zone(Progress::Settled).seconds(5).answers(100, 2).look();
    assert_eq!((story.phase(), story.share()), (Phase::Aborting, Share::ZERO));
    story.zone(Progress::Settled);
    assert_eq!(story.phase(), Phase::Aborted);
    assert!(story.deployment.status.message.contains("2 of 100 answers failed"));
}

#[test]
fn a_version_that_fails_while_it_is_observed_is_taken_back() {
    for intent in [Intent::Proceed, Intent::Pause] {
        let mut story = Story::new(&["10%", "100%"], &["error_rate>1%"]);
        story.look().zone(Progress::Settled);
        story.deployment.spec.intent = intent;
        story.zone(failed());
        assert_eq!((story.phase(), story.share()), (Phase::Failing, Share::ZERO));
        story.zone(Progress::Settled);
        assert_eq!(story.phase(), Phase::Failed);
    }
}

#[test]
fn a_pause_holds_the_weights_wherever_it_comes() {
    let mut story = Story::new(&["10%", "100%"], &[]);
    story.look().zone(Progress::Starting);
    story.deployment.spec.intent = Intent::Pause;
    story.look();
    assert!(story.service.status.hold, "before the shift the zone is told to hold");
    story.zone(Progress::Starting);
    assert!(story.deployment.status.message.starts_with("paused on request at step 1 of 2"));
    story.deployment.spec.intent = Intent::Proceed;
    story.look();
    assert!(!story.service.status.hold);
    story.zone(Progress::Settled);
    story.deployment.spec.intent = Intent::Pause;
    story.seconds(3600).look();
    assert_eq!((story.phase(), story.share()), (Phase::Observing, share("10%")));
    story.deployment.spec.intent = Intent::Proceed;
    story.look();
    assert_eq!(story.share(), share("100%"));
}

#[test]
fn promotion_skips_waiting_and_judging() {
    let mut story = Story::new(&["1%", "10%", "50%", "100%"], &["error_rate>1%"]);
    story.look().zone(Progress::Settled);
    story.deployment.spec.promoted = 1;
    story.look();
    assert_eq!((story.deployment.status.step, story.share()), (1, share("10%")));
    story.zone(Progress::Settled);
    story.deployment.spec.promoted = 3;
    story.look();
    assert_eq!((story.deployment.status.step, story.share()), (3, share("100%")));
}

#[test]
fn an_abort_works_in_every_unfinished_phase() {
    for progress in [Progress::Placing, Progress::Preloading, Progress::Starting, Progress::Shifting] {
        let mut story = Story::new(&["100%"], &[]);
        story.look().zone(progress);
        story.deployment.spec.intent = Intent::Abort;
        story.look();
        assert_eq!((story.phase(), story.share()), (Phase::Aborting, Share::ZERO));
        story.zone(Progress::Settled);
        assert_eq!(story.phase(), Phase::Aborted);
    }
}

fn any_progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        Just(Progress::Placing),
        Just(Progress::Preloading),
        Just(Progress::Starting),
        Just(Progress::Shifting),
        Just(Progress::Settled),
        Just(failed()),
    ]
}

proptest! {
    /// Whatever zones say and users want, in whatever order: the lock is held exactly while unfinished, a finished
    /// deployment never moves again, and one that did not reach its target left the weights as they were.
    #[test]
    fn ends_safely(events in proptest::collection::vec((any_progress(), 0u8..8, 0u64..40), 1..40)) {
        let mut story = Story::new(&["10%", "100%"], &["error_rate>1%"]);
        for (progress, user, seconds) in events {
            match user {
                0 => story.deployment.spec.intent = Intent::Pause,
                1 | 2 => story.deployment.spec.intent = Intent::Proceed,
                3 => story.deployment.spec.intent = Intent::Abort,
                4 => { story.answers(100, 50); }
                _ => { story.answers(100, 0); }
            }
            let before = (story.phase(), story.service.status.clone());
            story.seconds(seconds).zone(progress);
            prop_assert_eq!(story.service.status.deployment.is_none(), story.phase().is_final());
            if before.0.is_final() {
                prop_assert_eq!(&before.1, &story.service.status);
            }
            if matches!(story.phase(), Phase::Failed | Phase::Aborted | Phase::Failing | Phase::Aborting) {
                prop_assert_eq!(story.share(), Share::ZERO);
            }
        }
    }

    /// With a zone that always gets there and a patient user, every deployment ends.
    #[test]
    fn ends_at_all(steps in 1usize..5) {
        let texts = ["1%", "10%", "50%", "99%", "100%"];
        let mut story = Story::new(&texts[texts.len() - steps..], &[]);
        for _ in 0..(steps * 3 + 1) {
            story.seconds(31).zone(Progress::Settled);
        }
        prop_assert_eq!(story.phase(), Phase::Done);
    }
}

#[test]
fn the_history_tells_the_four_steps_once_each() {
    let mut story = Story::new(&["50%"], &[]);
    story.look();
    let candidate =
        |node: &str, holds| Candidate { node: node.parse().unwrap(), why: format!("{node} is roomy"), holds };
    let mut report = DeployReport {
        version: version("2.0"),
        share: share("50%"),
        whole: 3,
        workers: 2,
        candidates: vec![candidate("a", false), candidate("b", true)],
        more: 0,
        table: None,
    };
    story.deploying = vec![report.clone()];
    story.zone(Progress::Preloading).look();
    report.candidates[0].holds = true;
    story.deploying = vec![report.clone()];
    story.zone(Progress::Starting).look();
    report.table = Some(42);
    story.deploying = vec![report];
    story.zone(Progress::Shifting).look().zone(Progress::Settled);
    let history = &story.deployment.status.history;
    let told: Vec<&str> = history.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(
        told,
        [
            "estimated 2 workers: max(1, ceil(3 × 50%)) = 2",
            "candidate node a (a is roomy): sent it the preload of 2.0",
            "candidate node b (b is roomy): sent it the preload of 2.0",
            "node b holds 2.0 ready",
            "preloading",
            "node a holds 2.0 ready",
            "starting",
            "wrote the table at revision 42: 2.0 gets 50%",
            "shifting",
            "done",
            "released the lock on example.com:web",
        ]
    );
}

#[test]
fn an_estimate_says_what_load_and_the_manifest_make_of_it() {
    let report = |workers| DeployReport {
        version: version("2.0"),
        share: share("50%"),
        whole: 6,
        workers,
        candidates: vec![Candidate { node: "a".parse().unwrap(), why: String::new(), holds: false }],
        more: 3,
        table: None,
    };
    assert!(walked(&report(5))[0].ends_with("= 3, and 2 more for today's load"));
    assert!(walked(&report(1))[0].ends_with("= 3, and its manifest allows 1"));
    assert_eq!(
        walked(&report(3))[1..],
        [
            "candidate node a: sent it the preload of 2.0",
            "3 more candidate nodes were sent the preload of 2.0",
        ]
    );
}
