#!/bin/sh
# Builds the samples and test guests that the tests and `make up` use, into target/guests:
#   *.wasm            WebAssembly components
#   hello-wasm/       the wasm sample as it is pushed: component and tutti.toml
#   hello-grpc/       the gRPC sample as it is pushed: program and tutti.toml
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

# Put in place whole, and only if it differs: a test that runs meanwhile sees the old or the new one.
place() {
    if ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new.$$"
        mv "$2.new.$$" "$2"
    fi
}

# A target folder of their own, so that this never waits for a build of Tutti, nor the other way round.
component() {
    cargo build --quiet --release --locked --target "$target" \
        --manifest-path "$root/$1/Cargo.toml" --target-dir "$guests/build"
    place "$guests/build/$target/release/$2.wasm" "$guests/$2.wasm"
}

mkdir -p "$guests/hello-wasm" "$guests/hello-grpc"
component samples/hello-wasm hello_wasm
component crates/isolate-wasm/tests/guest hostile_guest
place "$guests/hello_wasm.wasm" "$guests/hello-wasm/hello_wasm.wasm"
place "$root/samples/hello-wasm/tutti.toml" "$guests/hello-wasm/tutti.toml"

cargo build --quiet --locked --manifest-path "$root/samples/hello-grpc/Cargo.toml" --target-dir "$guests/build"
place "$guests/build/debug/hello-grpc" "$guests/hello-grpc/hello-grpc"
place "$root/samples/hello-grpc/tutti.toml" "$guests/hello-grpc/tutti.toml"
