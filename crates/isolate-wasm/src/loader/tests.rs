use super::*;
use tutti_base::SystemClock;

fn loader(folder: &tempfile::TempDir) -> Loader {
    let mut options = WasmOptions::new(folder.path().join("cache"), Arc::new(SystemClock));
    options.compiler = crate::compiler::tests::program();
    options.compiler_args.clear();
    Loader::new(crate::engine::make(1).unwrap().0, &options).unwrap()
}

fn sample() -> Artifact {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/hello_wasm.wasm");
    let bytes = std::fs::read(&path).expect("the sample is missing: build it with scripts/build-guests.sh");
    let digest = sha256::digest(&bytes);
    let layer = Layer {
        media_type: "application/wasm".to_owned(),
        digest: digest.clone(),
        size: bytes.len() as u64,
        path,
    };
    Artifact { digest, layers: vec![layer] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_compiled_once_however_many_ask_and_whoever_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let loader = Arc::new(loader(&folder));
    let artifact = sample();
    // The first to ask goes away in the middle.
    let mut first = Box::pin(loader.load(&artifact, None));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    let asking = (0..20).map(|_| {
        let (loader, artifact) = (Arc::clone(&loader), artifact.clone());
        tokio::spawn(async move {
            loader.load(&artifact, None).await.map(|runnable| runnable.initial_memory).unwrap()
        })
    });
    let answers = futures_util::future::join_all(asking.collect::<Vec<_>>()).await;
    assert!(answers.into_iter().all(|memory| memory.unwrap() > 0));
    assert_eq!(loader.compiled(), 1);
}

#[test]
fn components_kept_ready_are_bounded_and_the_least_used_goes() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let runnable = runtime.block_on(loader.load(&sample(), None)).unwrap();
    loader.shared.ready.lock().unwrap().clear();
    for number in 0..READY {
        loader.shared.keep_ready(ready(number, &runnable));
    }
    assert!(loader.shared.find(&wanted(0)).is_some());
    loader.shared.keep_ready(ready(READY, &runnable));
    assert!(loader.shared.find(&wanted(0)).is_some(), "it was used last");
    assert!(loader.shared.find(&wanted(1)).is_none());
    assert_eq!(loader.shared.ready.lock().unwrap().len(), READY);
}

#[tokio::test]
async fn what_nobody_calls_leaves_memory_after_a_whole_pause() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(&folder);
    let runnable = loader.load(&sample(), None).await.unwrap();
    let look = || {
        loader.shared.look();
        runnable.resident()
    };
    assert!(!look(), "nobody has called it");
    runnable.used();
    assert!(look(), "it was called since the last look");
    runnable.used();
    assert!(look(), "and again");
    assert!(!look());
    assert!(!look());
    // An instance that nobody has called yet gives back what trying it out took; one that serves keeps it.
    runnable.used();
    runnable.rest();
    assert!(!look());
    runnable.used();
    assert!(look());
    runnable.rest();
    assert!(runnable.resident());
    drop(runnable);
    loader.shared.ready.lock().unwrap().clear();
    loader.shared.look();
    assert!(loader.shared.loaded.lock().unwrap().is_empty(), "what is gone is not remembered");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_are_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(&folder);
    let mut artifact = sample();
    artifact.layers[0].digest = sha256::digest(b"another");
    let error = loader.load(&artifact, None).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, DriverError::Host { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path().join("cache")).unwrap().count(), 0);
}

fn digest(number: usize) -> Digest {
    sha256::digest(&number.to_le_bytes())
}

fn ready(number: usize, runnable: &Arc<Runnable>) -> Ready {
    Ready { component: digest(number), grpc: None, runnable: Arc::clone(runnable) }
}

fn wanted(number: usize) -> Wanted {
    let component = Layer { digest: digest(number), ..sample().layers[0].clone() };
    Wanted { component, grpc: None }
}
