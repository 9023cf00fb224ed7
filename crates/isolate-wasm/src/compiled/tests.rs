use super::*;
use tempfile::TempDir;
use tutti_base::sha256;

fn component(number: u32) -> (Digest, Vec<u8>) {
    let text = format!("(component (core module (func (result i32) i32.const {number})))");
    (sha256::digest(text.as_bytes()), text.into_bytes())
}

fn cache(folder: &TempDir, bytes: u64) -> (Engine, Cache) {
    let engine = Engine::default();
    let cache = Cache::open(folder.path().join("cache"), bytes, &engine).unwrap();
    (engine, cache)
}

fn keep(engine: &Engine, cache: &Cache, number: u32) -> Digest {
    let (digest, bytes) = component(number);
    let code = Code::compiled_here(engine, &bytes).unwrap();
    cache.keep_and_load(engine, &digest, code).unwrap();
    digest
}

#[test]
fn keeps_and_loads_and_is_nobody_else_s() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    let digest = keep(&engine, &cache, 1);
    assert!(cache.load(&engine, &digest).is_some());
    assert!(cache.load(&engine, &component(2).0).is_none());
    assert_eq!(fs::metadata(&cache.folder).unwrap().mode() & 0o777, 0o700);
    let entry = cache.entries().unwrap().pop().unwrap();
    assert_eq!(fs::metadata(entry.path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_was_changed_or_that_others_can_write_is_removed_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    let path = |cache: &Cache| cache.entries().unwrap().pop().unwrap().path;

    let digest = keep(&engine, &cache, 1);
    fs::set_permissions(path(&cache), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(cache.load(&engine, &digest).is_none());
    assert!(cache.entries().unwrap().is_empty());

    let whole = keep(&engine, &cache, 1);
    let bytes = fs::read(path(&cache)).unwrap();
    let place = path(&cache);
    // Every length and a flip at every place would take long; a spread of both has to do.
    for at in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
        for damaged in [bytes[..at].to_vec(), {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            flipped
        }] {
            fs::write(&place, damaged).unwrap();
            assert!(cache.load(&engine, &whole).is_none(), "loaded with damage at {at}");
            assert!(!place.exists());
        }
    }
}

#[test]
fn the_least_recently_used_go_first_and_the_newest_never() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, mut cache) = cache(&folder, u64::MAX);
    let digests: Vec<_> = (0..4).map(|number| keep(&engine, &cache, number)).collect();
    let size = cache.entries().unwrap()[0].bytes;
    for (age, digest) in [(30, 0), (40, 1), (20, 2), (10, 3)].map(|(age, index)| (age, &digests[index])) {
        let entry =
            cache.entries().unwrap().into_iter().find(|entry| entry.name.starts_with(digest.hex())).unwrap();
        let then = SystemTime::now() - std::time::Duration::from_secs(age);
        File::open(entry.path).unwrap().set_modified(then).unwrap();
    }
    assert!(cache.load(&engine, &digests[0]).is_some(), "using it makes it young");
    cache.most_bytes = size * 3;
    let fifth = keep(&engine, &cache, 5);
    let there: Vec<_> = digests.iter().map(|digest| cache.load(&engine, digest).is_some()).collect();
    assert_eq!(there, [true, false, false, true]);
    cache.most_bytes = 0;
    let sixth = keep(&engine, &cache, 6);
    assert!(cache.load(&engine, &fifth).is_none());
    assert!(cache.load(&engine, &sixth).is_some());
}

#[test]
fn unfinished_files_are_removed_and_other_engines_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    let digest = keep(&engine, &cache, 1);
    let unfinished = cache.folder.join(format!("{UNFINISHED}1-1"));
    fs::write(&unfinished, "half").unwrap();
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    let other_engine = Engine::new(&config).unwrap();
    let other = Cache::open(cache.folder.clone(), u64::MAX, &other_engine).unwrap();
    assert!(!unfinished.exists());
    assert!(other.load(&other_engine, &digest).is_none(), "loaded what another engine had compiled");
    assert!(cache.load(&engine, &digest).is_some());
}

#[test]
fn runs_without_a_place_to_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    fs::remove_dir(&cache.folder).unwrap();
    keep(&engine, &cache, 1);
}
