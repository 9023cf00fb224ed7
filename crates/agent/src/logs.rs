//! The logs of this node's instances: read from their segments, kept for a while after an instance is gone.

use crate::node::Folders;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::{collections::BTreeSet, fs, io, path::Path, time::SystemTime};
use tutti_api::logs::{Kept, LogSource};
use tutti_logs::Reader;
use tutti_model::{
    Problem,
    log::{LogLine, LogQuery},
};

/// Logs of instances that are gone, kept so that one can look back at a release that was taken out; the newest.
const GONE_LOGS: usize = 200;

/// The logs of this node.
#[derive(Debug)]
pub(crate) struct NodeLogs {
    reader: Reader,
    folders: Folders,
}

impl NodeLogs {
    pub(crate) const fn new(reader: Reader, folders: Folders) -> Self {
        NodeLogs { reader, folders }
    }
}

#[async_trait]
impl LogSource for NodeLogs {
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem> {
        Ok(self.reader.read(query))
    }

    async fn kept(&self) -> Result<Vec<Kept>, Problem> {
        let folder = self.folders.logs();
        let listed = tokio::task::spawn_blocking(move || kept(&folder)).await;
        let listed = listed.map_err(|error| Problem::internal(format!("logs cannot be listed: {error}")))?;
        listed.map_err(|error| Problem::unavailable(format!("logs cannot be listed: {error}")))
    }
}

/// The file beside an instance's lines that says what it ran: when the instance is gone, nobody else knows.
const NOTE: &str = "instance.json";

/// Notes what an instance that is about to start runs, unless that was done before.
pub(crate) async fn note(folders: Folders, kept: Kept) {
    let instance = kept.instance.clone();
    let written = tokio::task::spawn_blocking(move || {
        let folder = folders.log(&kept.instance);
        let path = folder.join(NOTE);
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        // Whole or not at all, so that a crash leaves no half of one.
        let new = folder.join("instance.json.new");
        fs::write(&new, serde_json::to_vec(&kept)?)?;
        fs::rename(&new, &path)
    })
    .await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%instance, %error, "its lines will not be found once it is gone");
    }
}

fn kept(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(folder)? {
        let note = fs::read(folder?.path().join(NOTE));
        // Without a note, or with one of another time, it is as if the lines were gone.
        found.extend(note.ok().and_then(|note| serde_json::from_slice(&note).ok()));
    }
    Ok(found)
}

/// Removes the oldest logs of instances that are gone, down to [`GONE_LOGS`].
pub(crate) async fn sweep(folders: Folders) {
    let swept = tokio::task::spawn_blocking(move || remove_oldest(&folders, GONE_LOGS)).await;
    if let Ok(Err(error)) = swept {
        tracing::warn!(%error, "old logs could not be removed");
    }
}

fn remove_oldest(folders: &Folders, keep: usize) -> io::Result<()> {
    // Whoever is in the ledger is not gone.
    let known: BTreeSet<_> = fs::read_dir(folders.ledger())?
        .filter_map(|file| file.ok()?.path().file_stem().map(ToOwned::to_owned))
        .collect();
    let mut gone = Vec::new();
    for folder in fs::read_dir(folders.logs())? {
        let folder = folder?;
        if !known.contains(&folder.file_name()) {
            let written =
                folder.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            gone.push((written, folder.path()));
        }
    }
    gone.sort();
    let surplus = gone.len().saturating_sub(keep);
    for (_, folder) in gone.into_iter().take(surplus) {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_gone_instance_ran_is_known_from_its_lines() {
        let data = tempfile::tempdir().unwrap();
        let folders = Folders(data.path().to_owned());
        folders.make().unwrap();
        let of = |number: u64, started: u64| Kept {
            instance: tutti_model::InstanceId::from_bits(number),
            version: "example.com:web@1.0".parse().unwrap(),
            started: tutti_model::Timestamp(started),
        };
        let logs = NodeLogs::new(Reader::new(folders.logs()), folders.clone());
        assert_eq!(logs.kept().await.unwrap(), []);
        note(folders.clone(), of(1, 5)).await;
        // It is started again after a crash.
        note(folders.clone(), of(1, 9)).await;
        // One of an earlier release, and one that was damaged.
        fs::create_dir(folders.log(&tutti_model::InstanceId::from_bits(2))).unwrap();
        fs::create_dir(folders.log(&tutti_model::InstanceId::from_bits(3))).unwrap();
        fs::write(folders.log(&tutti_model::InstanceId::from_bits(3)).join(NOTE), "{").unwrap();
        assert_eq!(logs.kept().await.unwrap(), [of(1, 5)]);
    }

    #[test]
    fn old_logs_go_but_never_those_of_an_instance_that_is_there() {
        let data = tempfile::tempdir().unwrap();
        let folders = Folders(data.path().to_owned());
        folders.make().unwrap();
        fs::create_dir_all(folders.ledger()).unwrap();
        for (age, name) in ["i-there", "i-old", "i-newer", "i-newest"].into_iter().enumerate() {
            let folder = folders.logs().join(name);
            fs::create_dir(&folder).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + age as u64);
            fs::File::open(&folder).unwrap().set_modified(at).unwrap();
        }
        fs::write(folders.ledger().join("i-there.json"), "").unwrap();
        remove_oldest(&folders, 2).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folders.logs()).unwrap().map(|folder| folder.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["i-newer", "i-newest", "i-there"]);
    }
}
