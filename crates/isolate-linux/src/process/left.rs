//! What an earlier agent left: finding it, telling how it ended, and clearing it away.

use super::{artifact, start::STARTED_WITHIN};
use crate::{
    cgroup,
    record::{self, Ended, ShimSpec, State},
    shim::now,
};
use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

/// How long a shim whose connection ended may take to be gone. It exits right after closing.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What is found in a folder that an earlier agent may have used.
pub(super) enum Found {
    Nothing,
    Alive(State),
    Ended(Option<State>, Ended),
}

/// How long a living shim may take until it has noted who runs; it does so right after the start.
const NOTED_WITHIN: Duration = STARTED_WITHIN;

pub(super) fn find(folder: &Path) -> io::Result<Found> {
    if !folder.join(record::LOCK).exists() {
        return Ok(Found::Nothing);
    }
    let begun = now();
    loop {
        let alive = record::lock(folder)?.is_none();
        let state: Option<State> = record::read(folder, record::STATE)?;
        match (alive, state) {
            (true, Some(state)) => return Ok(Found::Alive(state)),
            (false, Some(state)) => {
                let ended = settle(folder, &state);
                return Ok(Found::Ended(Some(state), ended));
            }
            // Its shim was killed before anything ran, or could run nothing.
            (false, None) => return Ok(Found::Nothing),
            (true, None) if now().since(begun).duration() > NOTED_WITHIN => {
                return Err(io::Error::other("its shim lives but never said who runs"));
            }
            (true, None) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Waits until no shim lives in `folder` and takes its lock; `None` if one still does.
pub(super) fn wait_gone(folder: &Path) -> io::Result<Option<File>> {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        match record::lock(folder)? {
            Some(lock) => return Ok(Some(lock)),
            None if Instant::now() >= deadline => return Ok(None),
            // The kernel tells nobody when a lock is let go, other than those who wait for it without a bound. Besides
            // shims, any process of ours holds it for the moment between its fork and its exec.
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// How an instance ended whose shim is gone. If the shim was killed, nothing of the instance may stay.
pub(super) fn settle(folder: &Path, state: &State) -> Ended {
    if let Ok(Some(ended)) = record::read(folder, record::EXIT) {
        return ended;
    }
    let same_boot = record::boot_id().is_ok_and(|boot| boot == state.boot);
    let text = if same_boot {
        for process in [Some(state.process), state.init].into_iter().flatten() {
            process.kill();
        }
        match cgroup::end(&state.groups) {
            Ok(()) => "killed by signal 9 (SIGKILL): its shim was killed".to_owned(),
            Err(error) => format!("killed by signal 9 (SIGKILL): its shim was killed; {error}"),
        }
    } else {
        "ended with the machine, which was started again since".to_owned()
    };
    let ended = Ended { code: None, signal: same_boot.then_some(libc::SIGKILL), text, at: now() };
    let _ = record::write_durably(folder, record::EXIT, &ended);
    ended
}

/// Kills whatever runs in `folder` and removes it.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        if record::lock(folder)?.is_none()
            && let Ok(Some(state)) = record::read::<State>(folder, record::STATE)
        {
            state.shim.kill();
        }
        let Some(_lock) = wait_gone(folder)? else {
            return Err(io::Error::other(format!("the shim in {} does not end", folder.display())));
        };
        if let Ok(Some(state)) = record::read::<State>(folder, record::STATE) {
            settle(folder, &state);
        }
        // A shim that was killed before it could note anything.
        if let Ok(Some(spec)) = record::read::<ShimSpec>(folder, record::SPEC) {
            cgroup::end(&cgroup::left(spec.instance.as_str()))?;
        }
    }
    artifact::remove_tree(folder)
}
