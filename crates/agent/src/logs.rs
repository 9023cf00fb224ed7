//! The logs of this node's instances: read from their segments, kept for a while after an instance is gone.

use crate::node::Folders;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::{collections::BTreeSet, fs, io, time::SystemTime};
use tutti_api::logs::LogSource;
use tutti_logs::Reader;
use tutti_model::{
    Problem,
    log::{LogLine, LogQuery},
};

/// Logs of instances that are gone, kept so that one can look back at a release that was taken out; the newest.
const GONE_LOGS: usize = 200;

/// The logs of this node.
#[derive(Debug)]
pub(crate) struct NodeLogs(pub(crate) Reader);

#[async_trait]
impl LogSource for NodeLogs {
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem> {
        Ok(self.0.read(query))
    }
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
