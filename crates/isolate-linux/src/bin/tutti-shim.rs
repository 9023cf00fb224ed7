//! The shim as a program of its own, for tests of this crate; the product runs it as `tutti shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tutti_isolate_linux::shim::entry(std::env::args_os().skip(1))
}
