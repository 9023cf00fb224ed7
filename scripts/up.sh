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
# Private, as tutti itself makes it.
mkdir -p "$data" && chmod 700 "$data"

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
    case $(readlink "/proc/$(cat "$pid_file")/exe") in
        *" (deleted)") say "  it is an older build; to run this one: make down up" ;;
    esac
else
    start
fi

ready=$(grep -m 1 '"ready":true' "$ready_file") || die "tutti dev is not ready yet" "wait for it, or: make down up"
api=$(json_field api <<<"$ready")
http=$(json_field http <<<"$ready")
# The cloud that was just started, whatever context is the current one.
export TUTTI_API=$api
token_file=$(json_field token_file <<<"$ready")
TUTTI_TOKEN=$(cat "$token_file")
export TUTTI_TOKEN

"$tutti" version show "$version" >/dev/null 2>&1 ||
    "$tutti" push "$guests/hello-wasm/hello_wasm.wasm" "$version"
host=hello.example.com.localhost
port=${http##*:}
answers() { curl -sf -o /dev/null --max-time 10 "$@"; }
# Only where nothing serves yet: what somebody has deployed since stays as it is.
answers -H "Host: $host" "http://127.0.0.1:$port/" || "$tutti" deploy "$version" 100%

# What is printed is what was tried. Where *.localhost does not resolve, the host is named in a header.
call="http://$host:$port/"
answers "$call" || call="-H 'Host: $host' http://127.0.0.1:$port/"
answers -H "Host: $host" "http://127.0.0.1:$port/" ||
    die "the sample service does not answer" "ask why with: $tutti explain $service"

# The command line finds this cloud by itself if its context is the current one; else it is told.
next="export PATH=\"$target/debug:\$PATH\""
if ! env -u TUTTI_API -u TUTTI_TOKEN "$tutti" config 2>/dev/null | grep -qF "$api"; then
    next="$next TUTTI_API=$api TUTTI_TOKEN=\"\$(cat $token_file)\""
fi

cat <<TEXT

Tutti runs and serves $service. Its log is ${log#"$root"/}; \`make down\` stops it.
  call it    curl $call
  try next   $next; tutti status   (README.md has a tour)
TEXT
