//! Points at which a test can have the process killed, to prove that the next start goes on from there.
//!
//! In a debug build, `TUTTI_CRASH_AT=NAME` makes the process send itself SIGKILL when it reaches that point for the
//! first time: nothing is flushed, no destructor runs. In a release build none of this exists.

/// Dies here if a test asked for it. `name` is made only in debug builds.
#[inline]
pub fn reached(name: impl FnOnce() -> String) {
    #[cfg(debug_assertions)]
    debug::reached(&name());
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod debug {
    use std::sync::OnceLock;

    static CRASH_AT: OnceLock<Option<String>> = OnceLock::new();

    pub(super) fn reached(name: &str) {
        let wanted = CRASH_AT.get_or_init(|| std::env::var("TUTTI_CRASH_AT").ok());
        if wanted.as_deref() == Some(name) {
            let me = rustix::process::getpid();
            // If even this fails there is nothing left to do but go on, and the test will say that it did.
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        }
    }
}
