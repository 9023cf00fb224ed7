#!/usr/bin/env bash
# Builds what is written in Python into target/guests, as build-guests.sh does for the rest: the sample of a gRPC service
# in hello-wasm-grpc-python (its .proto, and 1.0/ and 1.1/ with component.wasm and tutti.toml), and the test guest
# wide-python/component.wasm. A component takes ten seconds, so it is made only when something that goes into it has
# changed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_python_tools
sample=samples/hello-wasm-grpc-python
made=$guests/hello-wasm-grpc-python
componentize=$root/target/venv/bin/componentize-py

# What a component is made of, its tool included: of WIT and these folders.
sources() {
    {
        cat "$sample/requirements.txt" scripts/build-python-guests.sh
        find "$@" -type f ! -name '*.pyc' | LC_ALL=C sort | while read -r file; do
            printf '%s\n' "$file"
            cat "$file"
        done
    } | sha256sum
}

# component OUT WIT WORLD FOLDER... : OUT/component.wasm of the module app in these folders.
component() {
    local out=$1 wit=$2 world=$3 wanted folder paths=()
    shift 3
    mkdir -p "$out"
    wanted=$(sources "$@" "$wit")
    [ -f "$out/component.wasm" ] && [ "$(cat "$out/made-of" 2>/dev/null)" = "$wanted" ] && return
    say "building ${out#"$root/"}"
    for folder in "$@"; do paths+=(--python-path "$folder"); done
    rm -f "$out/made-of"
    PYTHONDONTWRITEBYTECODE=1 "$componentize" --wit-path "$wit" --world "$world" \
        componentize "${paths[@]}" app --output "$out/component.new.wasm" >/dev/null
    mv "$out/component.new.wasm" "$out/component.wasm"
    printf '%s\n' "$wanted" >"$out/made-of"
}

mkdir -p "$made"
cp "$sample/proto/hello.proto" "$made/hello.proto"
component "$made/1.0" "$sample/wit" hello-world-server "$sample/src"
component "$made/1.1" "$sample/wit" hello-world-server "$sample/src" "$sample/talkative"
for version in 1.0 1.1; do cp "$sample/tutti.toml" "$made/$version/tutti.toml"; done

wide=crates/isolate-wasm/tests
component "$guests/wide-python" "$wide/wide_guest/wit" wide-server "$wide/wide_python"
