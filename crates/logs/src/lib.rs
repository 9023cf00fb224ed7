//! Log capture: what instances write, kept in bounded segments on disk with a timestamp for each line.
//!
//! One folder an instance. The writer is whoever holds the instance's output: the shim of a process, which outlives its
//! agent, or the agent itself for wasm. Readers (`tail`, `follow`) work on the files alone, so that no line is lost or
//! shown twice when an agent is killed and started again.
//!
//! [`segment`] is the form on disk, [`writer`] appends, [`cursor`] reads one folder on from a position, [`reader`]
//! merges several into a stream, [`split`] turns chunks of output into lines.

mod cursor;
pub mod reader;
pub mod segment;
pub mod split;
pub mod writer;

pub use reader::{Reader, last_lines, read};
pub use split::LineSplitter;
pub use writer::{Bounds, Writer};
