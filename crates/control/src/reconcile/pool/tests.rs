use super::*;
use crate::observed::Observed;
use std::{path::Path, sync::Arc, time::Duration};
use tutti_base::{Random, SystemClock};
use tutti_model::{
    name::ZoneName,
    node::Resources,
    pool::{POOL_IDLE, PoolStatus},
};
use tutti_store::memory::MemoryStore;

struct World {
    objects: Objects,
    folder: tempfile::TempDir,
}

impl World {
    /// A pool with one machine in this state.
    async fn with(state: MachineState) -> World {
        let clock = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let objects = Objects::new(store, ZoneName::local(), clock, Random::seeded(1));
        let spec = PoolSpec {
            pool: "burst".parse().unwrap(),
            min: 0,
            max: 1,
            offers: Resources::default(),
            isolates: Vec::new(),
            labels: Default::default(),
            taints: Vec::new(),
            idle: POOL_IDLE,
        };
        let mut pool = objects.make("burst", spec);
        pool.status = PoolStatus {
            machines: vec![PoolMachine {
                name: "burst-1".parse().unwrap(),
                state,
                since: Timestamp(0),
                why: String::new(),
                by_hand: false,
                idle_since: None,
                failure: None,
            }],
        };
        let node = NodeSpec::new("burst-1".parse().unwrap());
        let key = Digest::from_sha256(&[1; 32]);
        let member = MemberSpec {
            roles: [MachineRole::Server].into(),
            key: key.clone(),
            api: Some("c1:7070".parse().unwrap()),
            joined_by: None,
        };
        let own = MemberSpec { roles: [MachineRole::Agent].into(), key, api: None, joined_by: None };
        let write = objects.write().create(&pool).create(&objects.make("burst-1", node));
        let write = write.create(&objects.make("c1", member)).create(&objects.make("burst-1", own));
        write.commit().await.unwrap().unwrap();
        World { objects, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the loop with these commands until something holds of the pool's only machine.
    async fn run_until(&self, line: &str, holds: impl Fn(Option<&PoolMachine>, &Path) -> bool) {
        let program = Program::Shell(format!("cd {}; {line}", self.folder.path().display()));
        let commands = PoolCommands { make: program.clone(), remove: program, timeout: Millis::seconds(60) };
        let options = ReconcileOptions {
            loops: Default::default(),
            objects: self.objects.clone(),
            observed: Observed::new(),
            host_suffixes: Vec::new(),
            machines: MachineCommands {
                pools: [("burst".parse().unwrap(), commands)].into(),
                root: Some(Digest::from_sha256(&[2; 32])),
            },
        };
        let until = async {
            loop {
                let pool = self.objects.find::<PoolSpec>("burst").await.unwrap();
                let machine = pool.as_ref().and_then(|pool| pool.status.machines.first());
                if holds(machine, self.folder.path()) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = run(options, CancellationToken::new()) => {}
            done = tokio::time::timeout(Duration::from_secs(30), until) => done.unwrap(),
        }
    }

    async fn tokens(&self) -> Vec<Resource<JoinTokenSpec>> {
        self.objects.list::<JoinTokenSpec>("").await.unwrap().items
    }
}

#[tokio::test]
async fn a_machine_is_made_with_a_token_for_it_alone() {
    let world = World::with(MachineState::Making).await;
    let line = "env > env; cat /proc/$$/cmdline > argv";
    let joins = |machine: Option<&PoolMachine>, _: &Path| machine.unwrap().state == MachineState::Joining;
    world.run_until(line, joins).await;
    let told = std::fs::read_to_string(world.file("env")).unwrap();
    let token = told.lines().find_map(|line| line.strip_prefix("TUTTI_JOIN_TOKEN=")).unwrap();
    for line in
        ["TUTTI_NODE=burst-1", "TUTTI_POOL=burst", "TUTTI_JOIN_CONTROLS=c1:7070", "TUTTI_JOIN_ROLE=agent"]
    {
        assert!(told.lines().any(|told| told == line), "{told}");
    }
    let argv = std::fs::read_to_string(world.file("argv")).unwrap();
    assert!(!argv.contains(token));
    let kept = world.tokens().await;
    let token: JoinToken = token.parse().unwrap();
    assert_eq!(kept[0].name, token.hash().hex());
    assert_eq!(kept[0].spec.member.as_ref().unwrap().as_str(), "burst-1");
    assert_eq!(kept[0].spec.roles, [MachineRole::Agent].into());
}

#[tokio::test]
async fn a_command_that_was_cut_off_is_run_again_for_the_same_machine_and_only_the_last_token_admits() {
    let world = World::with(MachineState::Making).await;
    let line = "echo $TUTTI_NODE >> calls; test $(wc -l < calls) -gt 1 || sleep 1000";
    let calls = |folder: &Path| std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    world.run_until(line, |_, folder| calls(folder).lines().count() == 1).await;
    world.run_until(line, |machine, _| machine.unwrap().state == MachineState::Joining).await;
    assert_eq!(calls(world.folder.path()), "burst-1\nburst-1\n");
    assert_eq!(world.tokens().await.len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_later() {
    let world = World::with(MachineState::Making).await;
    let fails = |machine: Option<&PoolMachine>, _: &Path| machine.unwrap().failure.is_some();
    world.run_until("echo there is no quota; exit 1", fails).await;
    let pool = world.objects.get::<PoolSpec>("burst").await.unwrap();
    let machine = &pool.status.machines[0];
    let failure = machine.failure.clone().unwrap();
    assert_eq!((machine.state, failure.attempts), (MachineState::Making, 1));
    assert_eq!(failure.reason, "cd … ended with exit status: 1: there is no quota");
    assert!(failure.again_at > world.objects.clock().now());
}

#[tokio::test]
async fn what_is_removed_is_no_member_before_its_command_runs_and_no_node_after() {
    let world = World::with(MachineState::Removing).await;
    world.run_until("echo $TUTTI_NODE > removed", |machine, _| machine.is_none()).await;
    assert_eq!(std::fs::read_to_string(world.file("removed")).unwrap(), "burst-1\n");
    assert_eq!(world.objects.find::<NodeSpec>("burst-1").await.unwrap(), None);
    assert!(world.objects.find::<MemberSpec>("burst-1").await.unwrap().is_none());
    assert!(world.objects.find::<MemberSpec>("c1").await.unwrap().is_some());
}
