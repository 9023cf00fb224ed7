//! The suite that every driver passes.

use crate::fixture::{artifact, guest, manifest};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tutti_base::SystemClock;
use tutti_isolate::{
    Driver,
    suite::{self, Sample, Subject},
};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{
    InstanceId,
    log::{LogLine, LogQuery},
};

struct Wasm(TempDir);

#[async_trait]
impl Subject for Wasm {
    async fn driver(&self) -> Arc<dyn Driver> {
        let mut options = WasmOptions::new(self.0.path().join("cache"), Arc::new(SystemClock));
        options.requests = 10;
        options.compiler = env!("CARGO_BIN_EXE_tutti-compile").into();
        options.compiler_args.clear();
        Arc::new(WasmDriver::new(options).unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("suite")
    }

    fn hello(&self) -> Sample {
        Sample { artifact: guest("hostile_guest"), manifest: manifest() }
    }

    // A component does not end by itself, is not asked before it is stopped, and runs only when it is called.
    fn crasher(&self) -> Option<Sample> {
        None
    }

    fn stubborn(&self) -> Option<Sample> {
        None
    }

    fn talker(&self) -> Option<Sample> {
        None
    }

    fn unrunnable(&self) -> Option<Sample> {
        let path = self.0.path().join("module.wasm");
        std::fs::write(&path, wat::parse_str("(module)").unwrap()).unwrap();
        Some(Sample { artifact: artifact(path), manifest: manifest() })
    }

    async fn lines(&self, logs: &Path, instance: &InstanceId) -> Vec<LogLine> {
        tutti_logs::read(logs, instance.clone(), LogQuery::default()).map(Result::unwrap).collect().await
    }
}

#[tokio::test]
async fn passes_every_case_that_a_component_can_have() {
    let done = suite::run(&Wasm(tempfile::tempdir().unwrap())).await.unwrap();
    assert_eq!(
        done,
        [
            "fingerprint_is_honest",
            "preload_is_idempotent",
            "start_makes_it_reachable",
            "two_run_side_by_side",
            "stop_twice_is_stop_once",
            "usage_is_counted",
            "what_an_agent_left_is_recovered",
            "it_can_be_started_again",
            "remove_leaves_nothing",
            "what_cannot_run_says_why",
        ]
    );
}
