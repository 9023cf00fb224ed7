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
fn what_is_mapped_stays_the_file_s_so_that_its_pages_can_be_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    // Code that calls, traps, and has data and a table: everything that an image is made of.
    let text = r#"(component
        (core module $m
            (memory 1) (data (i32.const 8) "data") (table 2 funcref) (elem (i32.const 0) $g $f)
            (func $g (result i32) (i32.load (i32.const 8)))
            (func $f (export "f") (result i32)
                (i32.div_u (call_indirect (result i32) (i32.const 0)) (i32.trunc_f64_s (f64.const 1)))))
        (core instance $i (instantiate $m))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    let code = Code::compiled_here(&engine, text.as_bytes()).unwrap();
    let component = cache.keep_and_load(&engine, &sha256::digest(text.as_bytes()), code).unwrap();
    let call = || {
        let mut store = wasmtime::Store::new(&engine, ());
        let linker = wasmtime::component::Linker::new(&engine);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let function = instance.get_typed_func::<(), (u32,)>(&mut store, "f").unwrap();
        function.call(&mut store, ()).unwrap().0
    };
    let answer = u32::from_le_bytes(*b"data");
    assert_eq!(call(), answer);

    // The mapping's own pages, of which there are none as long as nothing was written, are told as "Anonymous".
    let start = component.image_range().start.addr();
    let end = component.image_range().end.addr();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut found, mut resident, mut own) = (false, 0, 0, 0);
    let mut count = |maps: &str| {
        (found, resident, own) = (0, 0, 0);
        for line in maps.lines() {
            let address = |text: &str| usize::from_str_radix(text, 16).ok();
            let first = line.split_whitespace().next().unwrap();
            if let Some((from, to)) = first.split_once('-').and_then(|(a, b)| address(a).zip(address(b))) {
                inside = start <= from && to <= end.next_multiple_of(4096);
                found += usize::from(inside);
            } else if inside {
                let kib = || line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
                match first {
                    "Rss:" => resident += kib(),
                    "Anonymous:" => own += kib(),
                    _ => {}
                }
            }
        }
        (found, resident, own)
    };
    let (found, resident, own) = count(&maps);
    assert!(found > 0 && resident > 0 && own == 0, "{found} mappings, {resident} KiB, own {own} KiB");
    give_back(&component);
    let (_, resident, own) = count(&fs::read_to_string("/proc/self/smaps").unwrap());
    assert_eq!((resident, own), (0, 0));
    assert_eq!(call(), answer);
}

#[test]
fn runs_without_a_place_to_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, cache) = cache(&folder, u64::MAX);
    fs::remove_dir(&cache.folder).unwrap();
    keep(&engine, &cache, 1);
}
