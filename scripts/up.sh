#!/usr/bin/env bash
# `make up`: installs what is missing, builds, starts `tutti dev` in the background with the sample service deployed,
# and prints how to call it. Running it again while it runs changes nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

data=$root/.tutti/dev
pid_file=$data/up.pid
ready_file=$data/up.ready
log=$data/up.log
service=example.com:hello
version=$service@1.0
# A cold start opens the store and the listeners; this is far beyond what that takes on a busy machine.
ready_seconds=60

need_build_tools
need_packages curl=curl python3=python3
mkdir -p "$data"

say "building (the first time takes some minutes)"
cargo build --bin tutti
scripts/build-guests.sh
tutti=$target/debug/tutti

# The process that the pid file names, if it is still the one that was started.
running() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "--data-dir $data"
}

start() {
    : >"$ready_file"
    setsid "$tutti" dev -o json --data-dir "$data" >"$ready_file" 2>"$log" </dev/null &
    local pid=$! waited=0
    echo "$pid" >"$pid_file"
    until grep -q '"ready":true' "$ready_file"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$pid_file"
            say "the last lines of $log:"
            tail -n 20 "$log" >&2
            die "tutti dev ended before it was ready"
        fi
        if [ "$waited" -ge $((ready_seconds * 10)) ]; then
            tail -n 20 "$log" >&2
            die "tutti dev was not ready after $ready_seconds s" "its log is $log; stop it with: make down"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}

if running; then
    say "tutti dev runs already (pid $(cat "$pid_file"))"
else
    start
fi

api=$(grep -m 1 '"ready":true' "$ready_file" | json_field api)
http=$(grep -m 1 '"ready":true' "$ready_file" | json_field http)
token_file=$(grep -m 1 '"ready":true' "$ready_file" | json_field token_file)
# The cloud that was just started, whatever context is the current one.
export TUTTI_API=$api
TUTTI_TOKEN=$(cat "$token_file")
export TUTTI_TOKEN

"$tutti" version show "$version" >/dev/null 2>&1 ||
    "$tutti" push "$guests/hello-wasm/hello_wasm.wasm" "$version"
host=hello.example.com.localhost
address=${http#http://}
port=${address##*:}
if ! curl -sf -o /dev/null -H "Host: $host" "http://127.0.0.1:$port/"; then
    "$tutti" deploy "$version" 100%
fi
curl -sf -o /dev/null -H "Host: $host" "http://127.0.0.1:$port/" ||
    die "the sample service does not answer" "ask why with: $tutti explain $service"

cat <<TEXT

Tutti runs. The sample service answers:

  curl http://$host:$port/
  curl -H 'Host: $host' http://127.0.0.1:$port/      (where *.localhost does not resolve)

API      $api
log      $log
command  $tutti      (try: $tutti status)
stop     make down
TEXT
