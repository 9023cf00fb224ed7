//! Log capture: what instances write, kept in bounded segments on disk with a timestamp for each line.
//!
//! One folder an instance. The writer is whoever holds the instance's output: the shim of a process, which outlives its
//! agent, or the agent itself for wasm. Readers (`tail`, `follow`) work on the files alone, so that no line is lost or
//! shown twice when an agent is killed and started again.
