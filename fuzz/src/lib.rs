//! Fuzz targets of Tutti: each tries one check of [`checks`] on whatever bytes the fuzzer makes up.

pub mod checks;

use checks::{CHECKS, Fixtures};
use std::{path::Path, sync::OnceLock};

/// Tries the check of this name.
pub fn check(name: &str, bytes: &[u8]) {
    static FIXTURES: OnceLock<Fixtures> = OnceLock::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fixtures = FIXTURES.get_or_init(|| Fixtures::new(&repository));
    let found = CHECKS.iter().find(|(known, _)| *known == name);
    found.expect("a check of this name").1(fixtures, bytes);
}
