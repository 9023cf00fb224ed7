# What the project's scripts share. Sourced, not run: it sets `root` and makes it the current folder.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# The build and everything the scripts make goes below here.
target=${CARGO_TARGET_DIR:-$root/target}
guests=$root/target/guests

# rustup puts cargo here; a login shell may not have been opened since.
[ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    [ $# -gt 1 ] && say "  $2"
    exit 1
}

# stage NAME COMMAND... : runs it and notes how many seconds it took and whether it went well.
stages=()
stage() {
    local name=$1 start=$SECONDS code=0
    shift
    say "== $name"
    "$@" || code=$?
    local note=""
    case $code in
        0) ;;
        # The tool is not installed, and the command has said so.
        77) note="  skipped" ;;
        *) note="  FAILED" ;;
    esac
    stages+=("$(printf '%6d s  %s%s' $((SECONDS - start)) "$name" "$note")")
    return "$code"
}

print_stages() { [ ${#stages[@]} -eq 0 ] || printf '%s\n' "${stages[@]}"; }

# The one command that installs a toolchain, on this machine.
need_toolchain() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "a Rust toolchain is missing (Rust $wanted or newer)" \
            "install it with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    fi
    found=$(rustc --version | awk '{print $2}')
    if [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        die "Rust $found is too old: $wanted or newer is needed" "update it with: rustup update stable"
    fi
}

# need_packages COMMAND=PACKAGE... : installs the Debian packages whose commands are missing.
need_packages() {
    local pair missing=() as_root=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]}" "install them with this system's package tool"
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            die "missing packages, and root is needed to install them" \
                "run as root: apt-get install ${missing[*]}"
        fi
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 ||
        say "the package lists could not be updated; going on with those that are here"
    # RUNLEVEL=1: what is installed is not to start as a service of this machine.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "could not install: ${missing[*]}"
}

# PostgreSQL's server, for the tests of the store on it, which start servers of their own. Debian keeps it off the path.
need_postgresql() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && return 0
    command -v initdb >/dev/null 2>&1 && return 0
    need_packages initdb=postgresql
    # The package makes a database of its own; nobody asked for that to run, now or after the next start.
    local as_root=() version name rest
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    pg_lsclusters -h | while read -r version name rest; do
        "${as_root[@]}" pg_ctlcluster "$version" "$name" stop 2>/dev/null || true
        echo manual | "${as_root[@]}" tee "/etc/postgresql/$version/$name/start.conf" >/dev/null
    done
}

# What a build needs beside Rust: a C compiler, for SQLite.
need_build_tools() {
    need_toolchain
    need_packages cc=gcc
    [ -e /usr/include/stdio.h ] || need_packages stdio.h=libc6-dev
    if [ ! -d "$(rustc --print target-libdir --target wasm32-wasip2 2>/dev/null)" ]; then
        command -v rustup >/dev/null ||
            die "the Rust target wasm32-wasip2 is missing, and there is no rustup to add it" \
                "see https://rustup.rs"
        say "adding the Rust target wasm32-wasip2"
        rustup target add wasm32-wasip2 >&2
    fi
}

# need_components COMMAND=COMPONENT... : adds the parts of the toolchain that a minimal one lacks.
need_components() {
    local pair
    for pair in "$@"; do
        cargo "${pair%%=*}" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || die "cargo ${pair%%=*} is missing, and there is no rustup to add it"
        say "adding ${pair#*=}"
        rustup component add "${pair#*=}" >&2
    done
}

# What the tests' clients and guests are installed from; versions are named there.
clients=$root/scripts/clients

# A Python with the stock gRPC client and componentize-py, for tests and guests, in target/venv.
need_python_tools() {
    need_packages python3=python3
    local venv=$root/target/venv wanted
    wanted=$(sha256sum <"$clients/requirements.txt")
    [ "$(cat "$venv/made-of" 2>/dev/null)" = "$wanted" ] && return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages ensurepip=python3-venv
    say "installing the Python clients into target/venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$clients/requirements.txt" >&2
    printf '%s\n' "$wanted" >"$venv/made-of"
}

# The stock gRPC client of Node, for the end-to-end tests, in target/node.
need_node_client() {
    need_packages node=nodejs npm=npm
    local folder=$root/target/node wanted
    wanted=$(sha256sum <"$clients/package.json")
    [ "$(cat "$folder/made-of" 2>/dev/null)" = "$wanted" ] && return 0
    say "installing the Node client into target/node"
    mkdir -p "$folder"
    cp "$clients/package.json" "$folder/package.json"
    npm install --prefix "$folder" --no-audit --no-fund --no-package-lock --loglevel=error >&2
    printf '%s\n' "$wanted" >"$folder/made-of"
}

# json_field NAME : the field of the JSON object on standard input; empty if it is not there.
json_field() {
    python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]) or "")' "$1"
}
