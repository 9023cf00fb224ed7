//! `json` of the checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tutti_fuzz::check("json", bytes));
