//! The fuzz targets' corpus, tried again: what a fuzzer has found once stays found.

use crate::{
    differential::{hex, messages},
    generate::Generator,
    host::methods,
    mutate::mutate,
    seed::Seed,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "../../../../fuzz/src/checks.rs"]
#[allow(unreachable_pub, reason = "public to the fuzz targets")]
mod checks;

/// Files that a corpus has at least: an empty folder would prove nothing.
const FILES: usize = 20;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_file_of_the_corpus_holds() {
    let fixtures = checks::Fixtures::new(&repository());
    for (name, check) in checks::CHECKS {
        let folder = repository().join("fuzz/corpus").join(name);
        let files: Vec<_> =
            fs::read_dir(&folder).into_iter().flatten().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= FILES, "{} has {} files", folder.display(), files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&fixtures, &bytes)));
            assert!(held.is_ok(), "{} does not hold", file.display());
        }
    }
}

/// What a fuzzer does without an end and with more wit, for a moment in every run.
#[test]
fn every_check_holds_for_changes_of_the_corpus() {
    let given = Seed::of_environment();
    println!("TUTTI_SEED={given}");
    let (mut seed, fixtures) = (Seed::new(given), checks::Fixtures::new(&repository()));
    for (name, check) in checks::CHECKS {
        let files = fs::read_dir(repository().join("fuzz/corpus").join(name)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let corpus: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        for _ in 0..messages() {
            let changed = mutate(&corpus[seed.below(corpus.len())], &mut seed);
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&fixtures, &changed)));
            assert!(held.is_ok(), "{name} does not hold for {}", hex(&changed));
        }
    }
}

/// Where a new corpus of the decoder begins, for whoever makes one: `UPDATE_CORPUS=FOLDER`.
#[test]
fn writes_a_first_corpus_when_asked() {
    let Some(folder) = std::env::var_os("UPDATE_CORPUS").map(PathBuf::from) else { return };
    let mut seed = Seed::new(1);
    fs::create_dir_all(&folder).unwrap();
    for number in 0..200_u8 {
        for (_, of) in methods() {
            let tidy = Generator::tidy(&mut seed).message(&of).sent;
            let odd = Generator::odd(&mut seed).message(&of).sent;
            for (kind, bytes) in [("tidy", tidy), ("odd", odd)] {
                fs::write(
                    folder.join(format!("{kind}-{}-{number}", of.name())),
                    [&[number], &bytes[..]].concat(),
                )
                .unwrap();
            }
        }
    }
}
