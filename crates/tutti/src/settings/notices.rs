//! Whether notices of changes go over NATS, and how it is reached.

use super::Effective;
use std::path::{Path, PathBuf};
use tutti_model::Problem;
use tutti_notices::NatsAddress;

/// How NATS is reached.
#[derive(Debug, Clone)]
pub(crate) struct NoticesSettings {
    /// Its servers.
    pub(crate) address: NatsAddress,
    /// A file with what it knows this role by.
    pub(crate) credentials: Option<PathBuf>,
    /// A file with certificates to trust beside the machine's.
    pub(crate) ca: Option<PathBuf>,
}

/// How NATS is reached; `None` where nobody names it, and changes are told by watches alone.
pub(super) fn read(effective: &Effective, faults: &mut Vec<Problem>) -> Option<NoticesSettings> {
    let file = |key| match effective.text(key) {
        "" => None,
        path => Some(std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned())),
    };
    let text = effective.text("notices");
    if text.is_empty() {
        return None;
    }
    let address = text.parse();
    let address = address.map_err(|problem: Problem| {
        // What stands there may be secret, if it stands in the wrong place.
        let fault = Problem::invalid(format!("notices: {}", problem.detail));
        faults.push(match problem.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        });
    });
    Some(NoticesSettings {
        address: address.ok()?,
        credentials: file("notices_credentials"),
        ca: file("notices_ca"),
    })
}
