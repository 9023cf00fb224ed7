#!/usr/bin/env bash
# `make cluster`: installs what is missing, builds, and leaves a cluster running on this machine: three members of etcd,
# three controls, two agents and an ingress, each a process with folders of its own. Running it again starts what does not
# run. `make cluster-down` (this with `down`) ends it and removes its folders.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

base=$root/.tutti/cluster
tutti=$target/debug/tutti
# Etcd's clients and peers from these ports on, controls' APIs, agents, and the ingress.
etcd_port=23790 peer_port=23800 api_port=7170 agent_port=7180 http_port=8180
ready_seconds=60

# runs NAME: whether the process of this name is still the one that was started.
runs() {
    local pid
    pid=$(cat "$base/$1.pid" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$base/"
}

# begin NAME COMMAND...: starts a process of this name, unless it runs.
begin() {
    local name=$1
    shift
    if runs "$name"; then return; fi
    : >"$base/$name.out"
    setsid "$@" >"$base/$name.out" 2>>"$base/$name.log" </dev/null &
    echo $! >"$base/$name.pid"
}

# until_ready NAME: waits for the line by which a role says that it is ready.
until_ready() {
    local waited=0
    until grep -q '"ready":true' "$base/$1.out"; do
        runs "$1" || { tail -n 20 "$base/$1.log" >&2; die "$1 ended before it was ready"; }
        [ "$waited" -lt $((ready_seconds * 10)) ] || die "$1 was not ready after $ready_seconds s" "its log is $base/$1.log"
        sleep 0.1
        waited=$((waited + 1))
    done
}

down() {
    local name pid
    for name in ingress agent-1 agent-2 control-1 control-2 control-3 etcd-1 etcd-2 etcd-3; do
        if runs "$name"; then
            pid=$(cat "$base/$name.pid")
            kill "$pid"
            while [ -e "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do sleep 0.1; done
        fi
        case $name in
            agent-?)
                if [ -d "$base/$name" ]; then
                    "$tutti" agent --data-dir "$base/$name" --member-dir "$base/$name-member" --stop-instances >/dev/null || true
                fi
                ;;
        esac
    done
    rm -rf "$base"
    say "the cluster is gone"
}

if [ "${1:-}" = down ]; then
    down
    exit 0
fi

need_build_tools
need_packages etcd=etcd-server curl=curl
mkdir -p "$base" && chmod 700 "$base"
say "building (the first time takes some minutes)"
cargo build --bin tutti

peers=""
store="etcd://"
for n in 1 2 3; do
    peers+="${peers:+,}etcd-$n=http://127.0.0.1:$((peer_port + n))"
    store+="$([ "$n" = 1 ] || echo ,)127.0.0.1:$((etcd_port + n))"
done
for n in 1 2 3; do
    begin "etcd-$n" etcd --name "etcd-$n" --data-dir "$base/etcd-$n" \
        --listen-client-urls "http://127.0.0.1:$((etcd_port + n))" --advertise-client-urls "http://127.0.0.1:$((etcd_port + n))" \
        --listen-peer-urls "http://127.0.0.1:$((peer_port + n))" --initial-advertise-peer-urls "http://127.0.0.1:$((peer_port + n))" \
        --initial-cluster "$peers"
done
waited=0
until curl -fsS "http://127.0.0.1:$((etcd_port + 1))/health" 2>/dev/null | grep -q true; do
    [ "$waited" -lt $((ready_seconds * 10)) ] || die "etcd was not ready after $ready_seconds s" "its log is $base/etcd-1.log"
    sleep 0.1
    waited=$((waited + 1))
done

for n in 1 2 3; do
    init=--init
    [ ! -e "$base/control-$n-member/membership.json" ] || init=""
    # shellcheck disable=SC2086 # it is one word or none
    begin "control-$n" "$tutti" server $init -o json --node "control-$n" --data-dir "$base/control-$n" \
        --member-dir "$base/control-$n-member" --store "$store" --blobs "shared:$base/blobs" --key "$base/control-$n.key" \
        --api "127.0.0.1:$((api_port + n))" --vouch true --context tutti-cluster
    until_ready "control-$n"
done
control=$base/control-1/control.sock
for n in 1 2; do
    if [ ! -e "$base/agent-$n-member/membership.json" ]; then
        token=$("$tutti" --api "unix:$control" token create --node "agent-$n" -o json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p')
        TUTTI_JOIN_TOKEN=$token "$tutti" join "127.0.0.1:$((api_port + n))" --node "agent-$n" \
            --member-dir "$base/agent-$n-member" --advertise "127.0.0.1:$((agent_port + n))"
    fi
    begin "agent-$n" "$tutti" agent -o json --data-dir "$base/agent-$n" --member-dir "$base/agent-$n-member" \
        --listen "127.0.0.1:$((agent_port + n))"
    until_ready "agent-$n"
done
begin ingress "$tutti" ingress -o json --data-dir "$base/ingress" --member-dir "$base/agent-1-member" \
    --http "127.0.0.1:$http_port"
until_ready ingress

cat <<TEXT

three members of etcd, three controls, two agents and an ingress run; their logs are in $base

  $tutti --api unix:$control node list
  $tutti --api unix:$control status
  curl -H 'host: SERVICE.DOMAIN.localhost' http://127.0.0.1:$http_port/

docs/guides/cluster.md goes on from here. To end it: make cluster-down
TEXT
