//! Uploads that span several requests.
//!
//! A session waits under a random id that only its starter knows. One request works on it at a time; if that one is cut
//! off, what came in stays, and the client may ask how much that is and go on.

use super::{IDLE, answer::OciError, places::Place};
use crate::Upload;
use http::StatusCode;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tutti_base::{Clock, Random};
use tutti_model::{ServiceRef, Timestamp};

/// An upload and its place among the uploads at once.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) upload: Box<dyn Upload>,
    pub(super) _place: Place,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    repository: ServiceRef,
    used: AtomicU64,
    /// `None` once it has ended.
    pub(super) taking: tokio::sync::Mutex<Option<Taking>>,
}

/// All sessions. As many as there are places for uploads.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<String, Arc<Session>>>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Random) -> Self {
        Sessions { open: Mutex::default(), clock, random }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and gives its id.
    pub(super) fn insert(&self, repository: &ServiceRef, taking: Taking) -> String {
        let id = format!("{:016x}{:016x}", self.random.bits(), self.random.bits());
        let session = Session {
            repository: repository.clone(),
            used: AtomicU64::new(self.clock.now().0),
            taking: tokio::sync::Mutex::new(Some(taking)),
        };
        self.open().insert(id.clone(), Arc::new(session));
        id
    }

    /// Finds a session, which counts as using it.
    pub(super) fn find(&self, repository: &ServiceRef, id: &str) -> Result<Arc<Session>, OciError> {
        let found = self.open().get(id).filter(|session| session.repository == *repository).cloned();
        let session = found.ok_or_else(|| OciError::upload_unknown(id))?;
        self.touch(&session);
        Ok(session)
    }

    /// Notes that a session is in use.
    pub(super) fn touch(&self, session: &Session) {
        session.used.store(self.clock.now().0, Ordering::Relaxed);
    }

    /// Ends a session; what came in is discarded with it, once no request works on it any more.
    pub(super) fn remove(&self, repository: &ServiceRef, id: &str) -> Result<Arc<Session>, OciError> {
        let session = self.find(repository, id)?;
        self.open().remove(id);
        Ok(session)
    }

    /// Ends those that nobody has used for [`IDLE`]. One that a request works on now is in use, however slowly its
    /// bytes come: that request has its own limit.
    pub(super) fn expire(&self) {
        let now = self.clock.now();
        self.open().retain(|_, session| {
            let idle = now.since(Timestamp(session.used.load(Ordering::Relaxed)));
            idle < IDLE || session.taking.try_lock().is_err()
        });
    }
}

impl Session {
    /// Takes hold of the upload for one request.
    pub(super) fn hold(&self, id: &str) -> Result<tokio::sync::MutexGuard<'_, Option<Taking>>, OciError> {
        self.taking.try_lock().map_err(|_| {
            OciError::new(
                StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                format!("another request works on upload \"{id}\" just now"),
            )
        })
    }
}
