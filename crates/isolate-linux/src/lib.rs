//! Isolates that the Linux kernel gives: processes under a shim, locked in by users, namespaces, control groups, Landlock
//! and seccomp. `unsafe` stands only in the module `sys`.
//!
//! ```text
//! agent ── driver ──socket──▶ shim ──▶ (init of a pid namespace)
//!                              └─────▶ the instance's program
//! ```
//!
//! The shim is the agent's own binary, run again. It is the program's parent: it holds its output, its exit status and
//! its stop deadline, and outlives the agent. So an agent may be killed and started again, and finds every instance as
//! it was. [`process`] is the agent's side, [`shim`] the other; they meet in files (`record`).

mod cgroup;
mod confine;
pub mod process;
mod record;
pub mod shim;
mod sys;

pub use process::{ProcessDriver, ProcessOptions};
