//! The mock driver is held to the same contract as the real ones.

use async_trait::async_trait;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tutti_base::SystemClock;
use tutti_isolate::{
    Artifact, Driver, Recovery,
    mock::MockDriver,
    suite::{self, Sample, Subject},
};
use tutti_model::{InstanceId, log::LogLine, manifest::Manifest, version::Isolate};

struct Mock {
    driver: MockDriver,
    folder: tempfile::TempDir,
}

#[async_trait]
impl Subject for Mock {
    async fn driver(&self) -> Arc<dyn Driver> {
        if self.driver.recovery() == Recovery::Gone {
            self.driver.lose_all();
        }
        Arc::new(self.driver.clone())
    }
    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
    fn hello(&self) -> Sample {
        let artifact = Artifact { digest: tutti_base::sha256::digest(b"hello"), layers: Vec::new() };
        Sample { artifact, manifest: Manifest::default() }
    }
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
        None
    }
    async fn lines(&self, _logs: &Path, _instance: &InstanceId) -> Vec<LogLine> {
        Vec::new()
    }
}

#[tokio::test]
async fn the_mock_passes_the_suite() {
    for recovery in [Recovery::Undisturbed, Recovery::Gone] {
        let driver = MockDriver::new(Isolate::Wasm, recovery, Arc::new(SystemClock));
        let mock = Mock { driver, folder: tempfile::tempdir().unwrap() };
        let done = suite::run(&mock).await.unwrap();
        assert_eq!(done.len(), 9, "{done:?}");
    }
}
