#!/bin/sh
# Builds the WebAssembly components that the tests and `make up` use, into target/guests/*.wasm.
# No binaries are checked in. Building again when nothing has changed takes a moment.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
guests=$root/target/guests
target=wasm32-wasip2

if ! rustc --print target-libdir --target "$target" >/dev/null 2>&1 ||
    [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
    echo "the Rust target $target is missing; add it with: rustup target add $target" >&2
    exit 1
fi

build() {
    # A target folder of their own, so that this never waits for a build of Tutti, nor the other way round.
    cargo build --quiet --release --locked --target "$target" \
        --manifest-path "$root/$1/Cargo.toml" --target-dir "$guests/build"
    # Put in place whole: a test that runs meanwhile sees the old or the new one.
    cp "$guests/build/$target/release/$2.wasm" "$guests/.$2.new"
    mv "$guests/.$2.new" "$guests/$2.wasm"
}

mkdir -p "$guests"
build samples/hello-wasm hello_wasm
build crates/isolate-wasm/tests/guest hostile_guest
