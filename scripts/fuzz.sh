#!/usr/bin/env bash
# `make fuzz`: tries strangers' bytes on what reads them, a minute for each target of fuzz/ or TUTTI_FUZZ_SECONDS.
# What is found lies in fuzz/artifacts; put it into fuzz/corpus once it holds, so that the tests try it again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_build_tools
need_packages c++=g++
if ! command -v cargo-fuzz >/dev/null; then
    say "installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi
# The sanitizers are not in the stable language yet.
export RUSTC_BOOTSTRAP=1
for name in $(cargo fuzz list); do
    mkdir -p "$target/fuzz-corpus/$name"
    # What is new goes to the first folder; the one that is checked in is only read.
    stage "fuzz $name" cargo fuzz run "$name" "$target/fuzz-corpus/$name" "fuzz/corpus/$name" -- \
        -max_total_time="${TUTTI_FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
print_stages
