//! Components that are hard to compile, and code that was compiled by somebody else.

use crate::fixture::{Host, PATIENCE, artifact, guest, manifest};
use std::time::{Duration, Instant};
use tutti_isolate::{Driver as _, DriverError};

/// A component with more code than a second is enough for.
fn endless() -> Vec<u8> {
    let step = "(local.set 0 (i64.add (i64.mul (local.get 0) (local.get 1)) (i64.rotl (local.get 1) (local.get 0))))";
    let function = format!("(func (param i64 i64) (result i64) {} (local.get 0))", step.repeat(500));
    wat::parse_str(format!("(component (core module {}))", function.repeat(2000))).unwrap()
}

#[tokio::test]
async fn one_that_takes_too_long_is_refused_while_another_is_served() {
    let host = Host::with(|options| {
        options.compile_limits.cpu = Duration::from_secs(1);
        options.compile_limits.cpu_per_mib = Duration::ZERO;
    });
    let service = host.start(guest("hello_wasm"), manifest()).await;
    let path = host.folder.path().join("endless.wasm");
    std::fs::write(&path, endless()).unwrap();
    let hostile = artifact(path);
    let begun = Instant::now();
    let preload = host.driver.preload(&hostile);
    tokio::pin!(preload);
    let mut served = 0;
    let result = loop {
        tokio::select! {
            result = &mut preload => break result,
            text = service.text("/") => {
                assert_eq!(text, "Hello from wasm, version 1.2\n");
                served += 1;
            }
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    let Err(DriverError::Unrunnable(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("more than 1 s of processor time to compile"), "{text}");
    assert!(served > 10, "{served} requests while it was compiled");
    // It is not kept as something that works, and its compiler is free for the next.
    assert!(host.driver.preload(&hostile).await.is_err());
    host.driver.preload(&guest("hostile_guest")).await.unwrap();
}

#[tokio::test]
async fn code_that_was_compiled_elsewhere_is_not_run() {
    let host = Host::new();
    host.driver.preload(&guest("hello_wasm")).await.unwrap();
    let cache = host.folder.path().join("cache");
    let code = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let copy = host.folder.path().join("compiled.wasm");
    std::fs::copy(code, &copy).unwrap();
    // As a component its own engine made it, and still it is nothing that comes in an artifact.
    let result = host.driver.preload(&artifact(copy)).await;
    let Err(DriverError::Unrunnable(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("not a component"), "{text}");
}
