//! What the SQLite engine does when the process, the disk or the medium fails it.
#![cfg(test)]

mod disk;
mod kill;
