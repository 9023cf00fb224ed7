#!/usr/bin/env bash
# Runs the end-to-end tests on other engines: `scripts/test-engines.sh whole|state ENGINE...`, the engines being sqlite,
# etcd and postgres. Each test has a server of its own. `state` leaves out what no engine can change.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# What reads and writes most of the state, in all the ways there are: which tests those are is said here alone.
state='test(/^(first_deploy|rollout|domains|quota|secrets|explain|recovery|audit|members|placement|backup)::/)'

case ${1:-} in
    whole) filter='binary(e2e)' ;;
    state) filter="binary(e2e) and $state" ;;
    *) say "usage: scripts/test-engines.sh whole|state ENGINE..." && exit 2 ;;
esac
shift

if ! command -v cargo-nextest >/dev/null; then
    say "SKIPPED: cargo-nextest is not installed, which chooses the tests"
    exit 77
fi
export TUTTI_TEST_PYTHON=${TUTTI_TEST_PYTHON:-$root/target/venv/bin/python}
export TUTTI_TEST_NODE=${TUTTI_TEST_NODE:-$root/target/node}
code=0
for engine in "$@"; do
    say "-- on $engine"
    TUTTI_TEST_ENGINE=$engine cargo nextest run --workspace --locked --no-fail-fast --hide-progress-bar \
        --status-level slow --final-status-level flaky -E "$filter" || code=$?
done
exit "$code"
