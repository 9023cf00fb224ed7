//! What the settings say that a node has and is, where its machine cannot tell.

use super::Effective;
use std::path::Path;
use tutti_model::{
    Problem, limits,
    node::{NODE_LABEL, Resources},
    quantity::Bandwidth,
    scheduling::{Labels, label},
};

/// The bandwidth that a node is said to have; `None` where nobody says.
pub(super) fn bandwidth(effective: &Effective, key: &str, faults: &mut Vec<Problem>) -> Option<Bandwidth> {
    match effective.text(key) {
        "" => None,
        text => text.parse().map_err(|problem: Problem| faults.push(effective.fault(key, problem))).ok(),
    }
}

/// What a node has, where its bandwidth is said rather than found; `None` leaves all to be found.
pub(crate) fn capacity(bandwidth: Option<Bandwidth>, folder: &Path) -> Option<Resources> {
    bandwidth.map(|bandwidth| Resources { bandwidth, ..tutti_agent::capacity(folder) })
}

/// The labels that a node is said to have: `KEY=VALUE`, with commas between.
pub(super) fn labels(effective: &Effective, key: &str, faults: &mut Vec<Problem>) -> Labels {
    let texts: Vec<&str> =
        effective.text(key).split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if texts.len() > limits::NODE_LABELS {
        let many = format!("{} labels are more than {}", texts.len(), limits::NODE_LABELS);
        faults.push(effective.fault(key, many));
    }
    let mut labels = Labels::new();
    for text in texts {
        match label(text) {
            Ok((name, _)) if name.as_str() == NODE_LABEL => {
                faults.push(
                    effective.fault(key, format!("{NODE_LABEL} is the node's name, and set by itself")),
                );
            }
            Ok((name, value)) => drop(labels.insert(name, value)),
            Err(problem) => faults.push(effective.fault(key, problem)),
        }
    }
    labels
}
