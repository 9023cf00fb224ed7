#!/usr/bin/env bash
# Builds the Python sample of a gRPC service into target/guests/hello-wasm-grpc-python, as build-guests.sh does for the
# other samples: its .proto, and 1.0/ and 1.1/ with component.wasm and tutti.toml. A component takes ten seconds, so it
# is made only when something that goes into it has changed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_python_tools
sample=samples/hello-wasm-grpc-python
made=$guests/hello-wasm-grpc-python
componentize=$root/target/venv/bin/componentize-py

# What a component is made of, its tool included.
sources() {
    {
        cat "$sample/requirements.txt" scripts/build-python-guests.sh
        find "$@" "$sample/wit" -type f ! -name '*.pyc' | LC_ALL=C sort | while read -r file; do
            printf '%s\n' "$file"
            cat "$file"
        done
    } | sha256sum
}

# component VERSION FOLDER... : of the modules in these folders.
component() {
    local version=$1 wanted folder paths=() out
    shift
    out=$made/$version
    mkdir -p "$out"
    cp "$sample/tutti.toml" "$out/tutti.toml"
    wanted=$(sources "$@")
    [ -f "$out/component.wasm" ] && [ "$(cat "$out/made-of" 2>/dev/null)" = "$wanted" ] && return
    say "building $sample, version $version"
    for folder in "$@"; do paths+=(--python-path "$folder"); done
    rm -f "$out/made-of"
    PYTHONDONTWRITEBYTECODE=1 "$componentize" --wit-path "$sample/wit" --world hello-world-server \
        componentize "${paths[@]}" app --output "$out/component.new.wasm" >/dev/null
    mv "$out/component.new.wasm" "$out/component.wasm"
    printf '%s\n' "$wanted" >"$out/made-of"
}

mkdir -p "$made"
cp "$sample/proto/hello.proto" "$made/hello.proto"
component 1.0 "$sample/src"
component 1.1 "$sample/src" "$sample/talkative"
