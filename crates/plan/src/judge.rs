//! Weighs the figures of a step against the conditions that end a deployment early.

use tutti_model::{deployment::AbortIf, limits::JUDGE_ANSWERS, stats::VersionStats};

/// What a step's figures say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Good,
    /// Too few answers to say.
    TooFew {
        /// How many there are.
        answers: u64,
    },
    /// A condition holds.
    Bad {
        /// Which, with the figure, in one sentence.
        reason: String,
    },
}

/// Weighs what the version answered since the step's weights serve. Without conditions everything is good; with any,
/// fewer than [`JUDGE_ANSWERS`] answers say nothing.
#[must_use]
pub fn judge(conditions: &[AbortIf], since: &VersionStats) -> Verdict {
    if conditions.is_empty() {
        return Verdict::Good;
    }
    if since.answers < JUDGE_ANSWERS {
        return Verdict::TooFew { answers: since.answers };
    }
    match conditions.iter().find_map(|condition| breach(*condition, since)) {
        Some(reason) => Verdict::Bad { reason },
        None => Verdict::Good,
    }
}

fn breach(condition: AbortIf, since: &VersionStats) -> Option<String> {
    match condition {
        AbortIf::ErrorRate(allowed) => {
            let (errors, answers) = (u128::from(since.errors), u128::from(since.answers));
            let too_many = errors * 1_000_000 > answers * u128::from(allowed.millionths());
            too_many.then(|| format!("{condition}: {errors} of {answers} answers failed"))
        }
        AbortIf::Latency { per_mille, above } => {
            let micros = since.latency.quantile(per_mille)?;
            let too_slow = micros > above.0.saturating_mul(1000);
            too_slow.then(|| {
                let millis = micros.div_ceil(1000);
                format!("{condition}: it was {millis}ms over {} answers", since.answers)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::stats::{BUCKETS, Histogram, bucket_of};

    fn figures(answers: u64, errors: u64, micros: u64) -> VersionStats {
        let mut counts = vec![0; BUCKETS];
        counts[bucket_of(micros)] = answers;
        VersionStats { answers, errors, latency: Histogram::from_counts(counts), running: 0 }
    }

    fn conditions(texts: &[&str]) -> Vec<AbortIf> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn few_answers_say_nothing_however_bad() {
        let verdict = judge(&conditions(&["error_rate>1%"]), &figures(49, 49, 10));
        assert_eq!(verdict, Verdict::TooFew { answers: 49 });
        assert!(matches!(judge(&conditions(&["error_rate>1%"]), &figures(50, 50, 10)), Verdict::Bad { .. }));
    }

    #[test]
    fn a_bound_itself_is_allowed() {
        let rate = conditions(&["error_rate>1%"]);
        assert_eq!(judge(&rate, &figures(1000, 10, 10)), Verdict::Good);
        assert!(matches!(judge(&rate, &figures(1000, 11, 10)), Verdict::Bad { .. }));
    }

    #[test]
    fn a_slow_tail_is_named() {
        let verdict = judge(&conditions(&["error_rate>1%", "p99>500ms"]), &figures(100, 0, 700_000));
        let Verdict::Bad { reason } = verdict else { panic!("{verdict:?}") };
        assert!(reason.starts_with("p99>500ms: it was 7"), "{reason}");
    }

    #[test]
    fn without_conditions_nothing_is_weighed() {
        assert_eq!(judge(&[], &figures(0, 0, 0)), Verdict::Good);
    }
}
