//! Which instances this driver has on this host, on disk: their folders, and the user of each. It is written before an
//! instance starts and removed after nothing is left of it, so that nobody is forgotten and no user is given twice.

use crate::record;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tutti_model::InstanceId;

/// The first user id that is given to instances: above those of people and of distributions, and of the ranges that
/// most hosts give to containers of their users (100000 on).
const FIRST_USER: u32 = 200_000;
/// How many user ids there are to give.
const USERS: u32 = 60_000;
/// The user id under which a host is tried out.
pub(super) const PROBE_USER: u32 = FIRST_USER + USERS;

/// Whether this process may give instances users of their own: it has the capabilities, and the users exist in its
/// user namespace, which in a container they may not.
pub(super) fn may_give_users() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    let able = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    let mapped =
        |table: &str| fs::read_to_string(table).is_ok_and(|table| maps(&table, FIRST_USER, PROBE_USER));
    able && mapped("/proc/self/uid_map") && mapped("/proc/self/gid_map")
}

/// Whether one line of a table of ids (first inside, first outside, count) holds all from `first` to `last`.
fn maps(table: &str, first: u32, last: u32) -> bool {
    table.lines().any(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        matches!(*fields, [inside, _, count] if inside <= first.into() && inside + count > last.into())
    })
}

/// One instance of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) instance: InstanceId,
    pub(super) folder: PathBuf,
    /// Its user and group, if it has its own.
    pub(super) uid: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Register {
    folder: PathBuf,
    /// Where this driver's ids begin, so that two on one host seldom give the same.
    offset: u32,
    own_users: bool,
    writing: Arc<Mutex<()>>,
}

impl Register {
    /// The register below `root`. `own_users` says whether each instance is to have its own user.
    pub(super) fn new(root: &Path, own_users: bool) -> Self {
        let digest = tutti_base::sha256::digest(root.as_os_str().as_encoded_bytes());
        let offset =
            digest.hex().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0) % USERS;
        Register { folder: root.join("instances"), offset, own_users, writing: Arc::default() }
    }

    /// Enters an instance, or finds it as it was entered before.
    pub(super) fn enter(&self, instance: &InstanceId, folder: &Path) -> io::Result<Entry> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&self.folder)?;
        if let Some(entry) = record::read::<Entry>(&self.folder, &file(instance))?
            && entry.folder == folder
        {
            return Ok(entry);
        }
        let uid = if self.own_users { Some(self.free_user()?) } else { None };
        let entry = Entry { instance: instance.clone(), folder: folder.to_owned(), uid };
        record::write(&self.folder, &file(instance), &entry)?;
        Ok(entry)
    }

    fn free_user(&self) -> io::Result<u32> {
        let taken: BTreeSet<u32> = self.all()?.into_iter().filter_map(|entry| entry.uid).collect();
        (0..USERS)
            .map(|step| FIRST_USER + (self.offset + step) % USERS)
            .find(|uid| !taken.contains(uid))
            .ok_or_else(|| io::Error::other("no user id is free"))
    }

    /// Removes an instance of which nothing is left.
    pub(super) fn leave(&self, instance: &InstanceId) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        record::remove(&self.folder.join(file(instance)))
    }

    /// All that are entered.
    pub(super) fn all(&self) -> io::Result<Vec<Entry>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| name.ends_with(".json") && !name.starts_with('.'))
            else {
                continue;
            };
            // One that cannot be read was cut short by the machine's end, and with that its instance.
            if let Ok(Some(entry)) = record::read(&self.folder, name) {
                found.push(entry);
            }
        }
        Ok(found)
    }
}

fn file(instance: &InstanceId) -> String {
    format!("{instance}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_are_not_mapped_are_not_given() {
        let (first, last) = (FIRST_USER, PROBE_USER);
        assert!(maps("         0          0 4294967295\n", first, last));
        assert!(!maps("0 1000 1\n", first, last));
        assert!(!maps("0 1000 1\n1 100000 65536\n", first, last));
        assert!(!maps("", first, last));
    }

    #[test]
    fn each_has_its_user_and_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let register = Register::new(root.path(), true);
        let ids: Vec<InstanceId> = (0..20).map(InstanceId::from_bits).collect();
        let users: BTreeSet<u32> =
            ids.iter().map(|id| register.enter(id, Path::new("/f")).unwrap().uid.unwrap()).collect();
        assert_eq!(users.len(), 20);
        assert!(users.iter().all(|uid| (FIRST_USER..PROBE_USER).contains(uid)));
        let again = Register::new(root.path(), true);
        assert!(users.contains(&again.enter(&ids[3], Path::new("/f")).unwrap().uid.unwrap()));
        assert_eq!(again.all().unwrap().len(), 20);
        for id in &ids {
            again.leave(id).unwrap();
        }
        assert!(again.all().unwrap().is_empty());
        assert_eq!(Register::new(root.path(), false).enter(&ids[0], Path::new("/f")).unwrap().uid, None);
    }
}
