//! Where the key is that secrets are sealed with.

use super::Effective;
use std::path::Path;
use tutti_model::Problem;
use tutti_seal::Source;

/// Where the key is that secrets are sealed with. Beside what it seals it would protect nothing.
pub(super) fn key(effective: &Effective, data_dir: &Path, faults: &mut Vec<Problem>) -> Option<Source> {
    let text = effective.text("key");
    if text.is_empty() {
        return None;
    }
    match text.parse() {
        Ok(Source::File(path)) => {
            let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let path = whole(&path);
            if path.starts_with(whole(data_dir)) {
                faults.push(
                    effective.fault("key", "it is in the data folder, whose copies would then hold both"),
                );
            }
            Some(Source::File(path))
        }
        Ok(source) => Some(source),
        Err(problem) => {
            let problem: Problem = problem;
            faults.push(Problem::invalid(format!("key: {}", problem.detail)));
            None
        }
    }
}
