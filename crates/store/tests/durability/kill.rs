//! kill -9 in the middle of load: nothing acknowledged is lost, nothing is half there, and revisions go on from where
//! they were. The test runs itself as the process that is killed.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};
use tutti_base::Random;
use tutti_store::{Compare, List, Revision, SqliteOptions, SqliteStore, Store, Txn, TxnOutcome};

const CHILD: &str = "TUTTI_STORE_KILL_CHILD";
const NAME: &str = "kill::nothing_acknowledged_is_lost_to_kill_9";
const WRITERS: u64 = 8;
/// By far more than a child lives to make.
const WRITES: u64 = 1_000_000;
const ROUNDS: u64 = 12;
const SEED: u64 = 20;
/// Little history, so that it is being forgotten while the process is killed.
const RETAIN: u64 = 300;

fn open(path: &Path) -> SqliteStore {
    let options = SqliteOptions { retain_revisions: RETAIN, ..SqliteOptions::default() };
    SqliteStore::open(path, options).unwrap()
}

/// What a writer was told: its count, at which revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acknowledged {
    writer: u64,
    count: u64,
    revision: Revision,
}

impl Acknowledged {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("acknowledged ")?.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Acknowledged { writer: number()?, count: number()?, revision: number()? })
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match env::var_os(CHILD) {
        Some(path) => runtime.block_on(write_until_killed(PathBuf::from(path))),
        None => runtime.block_on(kill_again_and_again()),
    }
}

/// The child: each writer raises its own counter, in two keys at once, and says so once it is acknowledged.
async fn write_until_killed(path: PathBuf) {
    let store = Arc::new(open(&path));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let name = format!("w/{writer}/a");
                let (mut count, mut modified) = match store.get(&name).await.unwrap() {
                    Some(entry) => (number(&entry.value), Some(entry.modified)),
                    None => (0, None),
                };
                while count < WRITES {
                    count += 1;
                    let compare = match modified {
                        Some(modified) => Compare::Modified(name.clone(), modified),
                        None => Compare::Absent(name.clone()),
                    };
                    let value = count.to_string().into_bytes();
                    let txn = Txn::new()
                        .when(compare)
                        .put(name.clone(), value.clone())
                        .put(format!("w/{writer}/b"), value);
                    let TxnOutcome::Committed(revision) = store.txn(txn).await.unwrap() else {
                        panic!("writer {writer} has its counter to itself");
                    };
                    modified = Some(revision);
                    let line = format!("\nacknowledged {writer} {count} {revision}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn kill_again_and_again() {
    println!("seed {SEED}");
    let random = Random::seeded(SEED);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut last: BTreeMap<u64, Acknowledged> = BTreeMap::new();
    let mut known: Revision = 0;
    for round in 0..ROUNDS {
        let lines = 1 + random.below(600);
        let told = run_and_kill(&path, lines);
        assert!(!told.is_empty(), "round {round}: the child did nothing");
        for acknowledged in &told {
            assert!(acknowledged.revision > known, "round {round}: {acknowledged:?}, and {known} was there");
            last.insert(acknowledged.writer, *acknowledged);
        }
        let store = open(&path);
        let revision = check(&store, &mut last, &told).await;
        assert!(revision >= known);
        println!("round {round}: {} acknowledged, killed at revision {revision}", told.len());
        known = revision;
    }
}

/// Kills the child once it has said so many things, and gives all that it said.
fn run_and_kill(path: &Path, lines: u64) -> Vec<Acknowledged> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut told = Vec::new();
    let mut line = String::new();
    let mut left = lines;
    // To the end: what is in the pipe when it dies was acknowledged too. The last line may be torn.
    while reader.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            told.extend(Acknowledged::parse(line.trim_end()));
        }
        line.clear();
        left = left.saturating_sub(1);
        if left == 0 {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child ended by itself: {status}");
    told
}

/// Looks whether all is there that was acknowledged, and takes down what is: each writer goes on from there, and may be
/// killed again before it has said anything.
async fn check(
    store: &SqliteStore,
    last: &mut BTreeMap<u64, Acknowledged>,
    told: &[Acknowledged],
) -> Revision {
    let now = store.revision().await.unwrap();
    for acknowledged in last.values_mut() {
        let Acknowledged { writer, count, revision } = *acknowledged;
        let a = store.get(&format!("w/{writer}/a")).await.unwrap().unwrap();
        let b = store.get(&format!("w/{writer}/b")).await.unwrap().unwrap();
        assert_eq!((&a.value, a.modified), (&b.value, b.modified), "half a transaction");
        let stored = number(&a.value);
        // One more may have been on its way.
        assert!((count..=count + 1).contains(&stored), "writer {writer}: {stored} after {count}");
        assert!(a.modified >= revision && now >= a.modified);
        if stored == count {
            assert_eq!(a.modified, revision);
        }
        (acknowledged.count, acknowledged.revision) = (stored, a.modified);
    }
    for acknowledged in told.iter().rev().filter(|told| told.revision + RETAIN > now).take(50) {
        let prefix = format!("w/{}/", acknowledged.writer);
        let list = List { at: Some(acknowledged.revision), ..List::prefix(prefix) };
        for entry in store.list(list).await.unwrap().entries {
            assert_eq!((number(&entry.value), entry.modified), (acknowledged.count, acknowledged.revision));
        }
    }
    now
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
