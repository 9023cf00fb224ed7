//! Between the messages of gRPC and what REST takes and gives.

use super::proto::{self, Deployment, Event, Weight, Weights};
use prost_types::{Duration, Timestamp};
use tutti_model::{
    Millis, Problem, Resource, Share, Split,
    deployment::{DeploymentSpec, Phase, Target},
};

/// A deployment as a message.
pub(super) fn deployment(object: &Resource<DeploymentSpec>) -> Deployment {
    let (spec, status) = (&object.spec, &object.status);
    let version = match &spec.target {
        Target::Version { version, .. } => version.to_string(),
        Target::Split(_) => String::new(),
    };
    let targets = (0..spec.target.steps()).map(|step| weights(&spec.target.split(&status.from, step)));
    Deployment {
        deployment: object.name.clone(),
        service: spec.service.to_string(),
        version,
        phase: phase(status.phase).into(),
        ended: status.phase.is_final(),
        step: number(status.step),
        targets: targets.collect(),
        message: status.message.clone(),
        failure: status.failure.as_ref().map(|failure| proto::Failure {
            reason: failure.reason.clone(),
            instance: failure.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
            last_lines: failure.last_lines.clone(),
        }),
        history: status
            .history
            .iter()
            .map(|entry| Event {
                at: Some(timestamp(entry.at)),
                phase: phase(entry.phase).into(),
                step: number(entry.step),
                text: entry.text.clone(),
            })
            .collect(),
        created_at: Some(timestamp(object.created_at)),
        finished_at: status.finished_at.map(timestamp),
        revision: object.revision,
    }
}

const fn phase(phase: Phase) -> proto::Phase {
    match phase {
        Phase::Placing => proto::Phase::Placing,
        Phase::Preloading => proto::Phase::Preloading,
        Phase::Starting => proto::Phase::Starting,
        Phase::Shifting => proto::Phase::Shifting,
        Phase::Observing => proto::Phase::Observing,
        Phase::Failing => proto::Phase::Failing,
        Phase::Aborting => proto::Phase::Aborting,
        Phase::Done => proto::Phase::Done,
        Phase::Failed => proto::Phase::Failed,
        Phase::Aborted => proto::Phase::Aborted,
    }
}

fn weights(split: &Split) -> Weights {
    let weight = |(version, share): (&tutti_model::VersionName, Share)| Weight {
        version: version.to_string(),
        percent: f64::from(share.millionths()) / 10_000.0,
    };
    Weights { weights: split.iter().map(weight).collect() }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn timestamp(at: tutti_model::Timestamp) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.0 % 1000 * 1_000_000).unwrap_or_default(),
    }
}

/// A span of time as a message.
pub(super) fn duration(span: Millis) -> Duration {
    Duration {
        seconds: i64::try_from(span.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.0 % 1000 * 1_000_000).unwrap_or_default(),
    }
}

/// A span of time that a caller gave; less than a millisecond counts as none.
///
/// # Errors
/// `invalid` for one that is negative or not a duration.
pub(super) fn millis(field: &str, span: &Duration) -> Result<Millis, Problem> {
    let wrong = || Problem::invalid(format!("{field} is not a span of time from 0 on"));
    let seconds = u64::try_from(span.seconds).map_err(|_| wrong())?;
    let nanos = u64::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(wrong)?;
    seconds.checked_mul(1000).map(|whole| Millis(whole.saturating_add(nanos / 1_000_000))).ok_or_else(wrong)
}

/// A share that a caller gave in percent.
///
/// # Errors
/// `invalid`, as for one that is written on the command line.
pub(super) fn share(percent: f64) -> Result<Share, Problem> {
    format!("{percent}%").parse()
}

/// `SERVICE@VERSION`, as REST names a version.
///
/// # Errors
/// `invalid` if one is missing or is not a name.
pub(super) fn version(service: &str, version: &str) -> Result<tutti_model::name::VersionText, Problem> {
    for (field, given) in [("service", service), ("version", version)] {
        if given.is_empty() {
            return Err(Problem::invalid(format!("{field} is empty")));
        }
    }
    format!("{service}@{version}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_share_survives_being_a_number(millionths in 0u32..=1_000_000) {
            let share = Share::from_millionths(millionths);
            prop_assert_eq!(super::share(f64::from(millionths) / 10_000.0).unwrap(), share);
        }

        #[test]
        fn every_span_reads_back(span in 0u64..(1 << 50)) {
            prop_assert_eq!(millis("wait", &duration(Millis(span))).unwrap(), Millis(span));
        }
    }

    #[test]
    fn what_is_no_share_or_span_is_refused() {
        for wrong in [f64::NAN, f64::INFINITY, -1.0, 100.1, 1e300, 1e-5] {
            assert_eq!(share(wrong).unwrap_err().code, tutti_model::ErrorCode::Invalid, "{wrong}");
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert!(millis("every", &Duration { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
    }
}
