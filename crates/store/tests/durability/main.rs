//! What the SQLite engine does when the process, the disk or the medium fails it.

mod disk;
mod kill;
