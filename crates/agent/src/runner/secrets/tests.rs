use crate::testing::{Bench, eventually, id, instance};
use tutti_base::SecretValues;
use tutti_model::{ErrorCode, Problem, Resource, instance::InstanceSpec, instance::InstanceState};

fn values(value: &str) -> SecretValues {
    let mut values = SecretValues::default();
    values.insert("API_KEY", value.to_owned());
    values
}

fn wants_secrets(number: u64) -> Resource<InstanceSpec> {
    let mut wanted = instance(number);
    wanted.spec.manifest.secrets.insert("API_KEY".into(), "api-key".parse().unwrap());
    wanted
}

#[tokio::test(start_paused = true)]
async fn each_start_has_the_secrets_of_that_moment_and_the_ledger_none_in_clear() {
    let bench = Bench::new();
    bench.zone.heard().secrets = values("hunter2");
    bench.zone.put(wants_secrets(1));
    bench.zone.until_state(&id(1), InstanceState::Ready).await;
    assert_eq!(bench.process.secrets(&id(1)), values("hunter2"));
    let ledger = std::fs::read_dir(bench.folder.join("ledger")).unwrap().flatten();
    let texts: Vec<String> = ledger.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("tutti1.")), "{texts:?}");
    assert!(texts.iter().all(|text| !text.contains("hunter2")), "{texts:?}");
    // A change is for starts after it.
    bench.zone.heard().secrets = values("swordfish");
    assert_eq!(bench.process.secrets(&id(1)), values("hunter2"));
    assert!(bench.process.crash(&id(1), 1));
    eventually("it runs again", || bench.process.starts(&id(1)) == 2).await;
    assert_eq!(bench.process.secrets(&id(1)), values("swordfish"));
}

#[tokio::test(start_paused = true)]
async fn without_control_an_instance_starts_with_those_of_before() {
    let bench = Bench::new();
    bench.zone.heard().secrets = values("hunter2");
    let mut wasm = wants_secrets(1);
    wasm.spec.isolate = tutti_model::version::Isolate::Wasm;
    bench.zone.put(wasm);
    bench.zone.until_state(&id(1), InstanceState::Ready).await;
    // What went with the agent is started again by the next.
    let bench = bench.restart(|bench| bench.zone.heard().away = true).await;
    eventually("it runs again", || bench.wasm.starts(&id(1)) == 2).await;
    assert_eq!(bench.wasm.secrets(&id(1)), values("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn one_that_has_no_secrets_says_why_and_starts_once_it_has() {
    let bench = Bench::new();
    bench.zone.heard().secrets = values("hunter2");
    bench.zone.heard().refuse_secrets =
        Some(Problem::unavailable("secret example.com:api-key cannot be read"));
    bench.zone.put(wants_secrets(1));
    bench
        .zone
        .until("it says why", |heard| {
            let reason = heard.last(&id(1)).reason.unwrap_or_default();
            reason.starts_with("has no secrets yet: ")
                && reason.contains("example.com:api-key cannot be read")
        })
        .await;
    assert_eq!(bench.process.starts(&id(1)), 0);
    bench.zone.heard().refuse_secrets = None;
    bench.zone.until_state(&id(1), InstanceState::Ready).await;
    assert_eq!(bench.process.secrets(&id(1)), values("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_gone_is_not_used_again() {
    let bench = Bench::new();
    bench.zone.heard().secrets = values("hunter2");
    bench.zone.put(wants_secrets(1));
    bench.zone.until_state(&id(1), InstanceState::Ready).await;
    let gone = Problem::new(ErrorCode::NotFound, "there is no secret example.com:api-key");
    bench.zone.heard().refuse_secrets = Some(gone);
    assert!(bench.process.crash(&id(1), 1));
    let says = |reason: &str| reason.contains("there is no secret");
    bench
        .zone
        .until("it says why", |heard| heard.last(&id(1)).reason.is_some_and(|reason| says(&reason)))
        .await;
    assert_eq!(bench.process.starts(&id(1)), 1);
}
