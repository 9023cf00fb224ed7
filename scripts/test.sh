#!/usr/bin/env bash
# `make test`: everything that shows that Tutti works, with the seconds of each stage. It uses free ports and folders of
# its own, so that it runs beside `make up`. Its last line is `N passed, M failed, K skipped`, over all stages.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
failed=no

# check NAME COMMAND... : a stage that counts as one test.
check() {
    local name=$1 code=0
    stage "$@" || code=$?
    case $code in
        0) echo "1 0 0" >>"$counts" ;;
        # The tool is not installed, and the command has said so.
        77) echo "0 0 1" >>"$counts" ;;
        *) echo "0 1 0" >>"$counts" && failed=yes ;;
    esac
}

# suite NAME COMMAND... : a stage whose own tests are counted from what it prints.
suite() { counted "" "$@"; }

# chosen NAME COMMAND... : the same for some of the tests, of which another stage runs the rest.
chosen() { counted chosen "$@"; }

counted() {
    local how=$1 name=$2 output junit=$target/nextest/default/junit.xml code=0
    shift 2
    output=$(mktemp)
    rm -f "$junit"
    stage "$name" run_logged "$output" "$@" || code=$?
    [ "$code" -eq 0 ] || failed=yes
    if ! scripts/count-tests.py "$code" "$junit" $how <"$output" >>"$counts"; then
        say "the stage \"$name\" ran no test"
        failed=yes
    fi
    rm -f "$output"
}

run_logged() {
    local output=$1
    shift
    "$@" 2>&1 | tee "$output"
}

install_tools() {
    need_build_tools
    need_components fmt=rustfmt clippy=clippy
    need_packages curl=curl openssl=openssl wrk=wrk dig=bind9-dnsutils python3=python3 etcd=etcd-server ip=iproute2 nsenter=util-linux mount=mount \
        sshd=openssh-server ssh=openssh-client systemd-analyze=systemd nats-server=nats-server
    need_postgresql
    need_python_tools
    need_node_client
}

build() {
    scripts/build-guests.sh
    scripts/build-python-guests.sh
    cargo test --workspace --no-run --locked --quiet
    cargo build --workspace --locked --quiet
}

# Rust tests; doc tests are not nextest's business.
rust_tests() {
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --workspace --locked --no-fail-fast --hide-progress-bar \
            --status-level slow --final-status-level flaky
    else
        cargo test --workspace --locked --no-fail-fast --lib --bins --tests
    fi
}

deny() {
    if ! command -v cargo-deny >/dev/null; then
        say "SKIPPED: cargo-deny is not installed; install it with: cargo install cargo-deny --locked"
        return 77
    fi
    cargo deny --offline check bans licenses sources
}

stage "install tools" install_tools
check "format" cargo fmt --all --check
check "arrows" scripts/arrows.py
check "arrows can fail" scripts/arrows.py --self-test
check "tidy" scripts/tidy.py
check "tidy can fail" scripts/tidy.py --self-test
check "counting can fail" scripts/count-tests.py --self-test
stage "build" build || { say "the build failed"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
export TUTTI_TEST_PYTHON=$root/target/venv/bin/python
export TUTTI_TEST_NODE=$root/target/node
suite "tests" rust_tests
# What holds state, again on the engines of clusters; `make test-engines` runs all of it on each.
if command -v cargo-nextest >/dev/null; then
    for engine in etcd postgres; do
        chosen "tests on $engine" scripts/test-engines.sh state "$engine"
    done
fi
check "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
check "licences and bans" deny

print_stages
awk '{ p += $1; f += $2; s += $3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$counts"
[ "$failed" = no ]
