//! The compiler as a program of its own, for tests of this crate; the product runs it as `tutti compile`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tutti_isolate_wasm::compiler::entry(std::env::args_os().skip(1))
}
