#!/usr/bin/env bash
# `make bench`: a release build beside nginx, in one run on this machine; writes the table in docs/benchmarks.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_build_tools
need_packages curl=curl wrk=wrk nginx=nginx-light python3=python3
say "building the release (about 20 minutes of cpu the first time)"
cargo build --release --locked --bin tutti
scripts/build-guests.sh
exec python3 scripts/bench.py "$target/release/tutti" "$guests" docs/benchmarks.md "$@"
