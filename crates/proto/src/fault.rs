//! One thing that is wrong in a `.proto` file or a descriptor set, with its place and what to do.

use std::fmt;
use tutti_model::{ErrorCode, Problem};

/// Faults that are named in one answer; the rest are counted.
const NAMED_FAULTS: usize = 20;

/// One thing that is wrong, said so that it can be found and mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as imports name it; empty where no single file is at fault.
    pub file: String,
    /// Line and column, counted from 1; `None` where the descriptors carry no source positions.
    pub position: Option<(u32, u32)>,
    /// What is wrong: lower case, without a full stop.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of a whole file.
    #[must_use]
    pub fn of_file(file: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { file: file.into(), position: None, what: what.into(), hint: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let Some((line, column)) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// All faults as the one problem that crosses the crate's edge.
#[must_use]
pub fn problem(faults: &[Fault]) -> Problem {
    let mut lines: Vec<String> = faults.iter().take(NAMED_FAULTS).map(ToString::to_string).collect();
    if let Some(more) = faults.len().checked_sub(NAMED_FAULTS).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    Problem::new(ErrorCode::Invalid, lines.join("\n"))
}
